/* Which data sets there are.  Addresses name a commit, so what they hold cannot change under a name; the hash is checked all the same. */
#include "dataset_priv.h"

#define GSM "https://raw.githubusercontent.com/openai/grade-school-math/3101c7d5072418e28b9008a6636bde82a006892c/grade_school_math/data/"
#define HE "https://raw.githubusercontent.com/openai/human-eval/6d43fb980f9fee3c892a914eda09951f772ad10d/data/"
#define SHI "https://raw.githubusercontent.com/DavidFanzz/llm_decoding/bdb025d9bdb2e9b20e18edaa5dc5b0db9e3ee046/data/"
#define STUDY "https://raw.githubusercontent.com/ds-anik/Energy-Conscious-LLM-Decoding/cc80f0cfa3a0320a7c388c8aed58bd9ac589688c/"
#define PE "https://raw.githubusercontent.com/mrigankpawagi/PropertyEval/b2be813dcff867cc350c61b8d3ea57ec088ce1ac/"
#define GR "https://raw.githubusercontent.com/google-research/google-research/f82046ba5aabbbb427dbfd38a254d26bff08b533/mbpp/"
#define M30 "https://raw.githubusercontent.com/multi30k/dataset/a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/raw/"
#define WMT "https://raw.githubusercontent.com/wmt-conference/wmt22-news-systems/20240a2e96a50e823ea8cdf37fd8af52547146e3/txt/"

static const jpt_dataset_file code2text[] = {
    {.path = "code2text/python_first100.jsonl", .bytes = 216937, .sha256 = "4da119a829da9c91ac7a1d13be5d8679b302129da1505862cdd20dff01516fbe",
     .recipe = JPT_RECIPE_FIELDS, .url = STUDY "results/Qwen2.5-Instruct/7B/code2text-python/greedy/outputs/greedy/run_5/pretrained__Qwen__Qwen2.5-7B-Instruct,dtype__bfloat16,device__cuda,parallelize__False_code2text_python.jsonl", .detail = "doc_id,repo=doc.repo,path=doc.path,func_name=doc.func_name,language=doc.language,code=doc.code,docstring=doc.docstring,url=doc.url,prompt=arguments.0.0,target"},
    {.path = "code2text/javascript_first100.jsonl", .bytes = 199255, .sha256 = "0d0cb7d77ced42a566b6adb3b1c29e0f82fd7fbd2c40182b1749952ad0bb8366",
     .recipe = JPT_RECIPE_FIELDS, .url = STUDY "results/Llama-3.1-Instruct/8B/code2text-javascript/greedy/outputs/greedy/run_2/pretrained__meta-llama__Llama-3.1-8B-Instruct,dtype__bfloat16,device__cuda,parallelize__False_code2text_javascript.jsonl", .detail = "doc_id,repo=doc.repo,path=doc.path,func_name=doc.func_name,language=doc.language,code=doc.code,docstring=doc.docstring,url=doc.url,prompt=arguments.0.0,target"},
};

static const jpt_dataset_file gsm8k[] = {
    {.path = "gsm8k/test.jsonl", .bytes = 749738, .sha256 = "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",
     .recipe = JPT_RECIPE_AS_IS, .url = GSM "test.jsonl"},
    {.path = "gsm8k/train_first500.jsonl", .bytes = 286586, .sha256 = "6ba0476c06666c5d4ce4a1d1659cae4fba4fac5a46c0726e1e6b57d13a256701",
     .recipe = JPT_RECIPE_HEAD, .url = GSM "train.jsonl", .lines = 500},
    {.path = "gsm8k/cot8_prompt_prefix.txt", .bytes = 2237, .sha256 = "6fc8afe46bebb70991ecf566a670ee0d661cc09c5d82df64fb7c2e0a936f51dd",
     .recipe = JPT_RECIPE_PREFIX, .url = SHI "gsm8k/Llama2_input.jsonl", .detail = "instructions"},
    {.path = "gsm8k/study_5shot_first100.jsonl", .bytes = 344105, .sha256 = "f47e304269061934f890e193bbf832dae32245a629434db608f2af2a90ee17fd",
     .recipe = JPT_RECIPE_FIELDS, .url = STUDY "results/Llama-3.1-Instruct/8B/gsm8k/greedy/outputs/greedy/run_3/meta-llama__Llama-3.1-8B-Instruct/samples_gsm8k_2025-03-20T06-46-47.055137.jsonl", .detail = "doc_id,prompt=arguments.gen_args_0.arg_0,answer=doc.answer,until=arguments.gen_args_0.arg_1.until"},
};

static const jpt_dataset_file gsm8k_train[] = {
    {.path = "gsm8k/test.jsonl", .bytes = 749738, .sha256 = "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",
     .recipe = JPT_RECIPE_AS_IS, .url = GSM "test.jsonl"},
    {.path = "gsm8k/train.jsonl", .bytes = 4166206, .sha256 = "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465",
     .recipe = JPT_RECIPE_AS_IS, .url = GSM "train.jsonl"},
};

static const jpt_dataset_file humaneval[] = {
    {.path = "humaneval/HumanEval.jsonl", .bytes = 214438, .sha256 = "1d49078ba3e2b196b9344535bef34a43021f038fad9561d6ee7c53450609a6a2",
     .recipe = JPT_RECIPE_GUNZIP, .url = HE "HumanEval.jsonl.gz"},
};

static const jpt_dataset_file mbpp[] = {
    {.path = "mbpp/mbpp.jsonl", .bytes = 563743, .sha256 = "ccf64ceae9c5403bf50a044cb6d505bfd2a2963ee58338ba268fd65beab92a9f",
     .recipe = JPT_RECIPE_AS_IS, .url = GR "mbpp.jsonl"},
    {.path = "mbpp/mbpp_test500.jsonl", .bytes = 287032, .sha256 = "88d690200dbe7f37274844b41276646481b217c4995df688914b5fb3eced79ce",
     .recipe = JPT_RECIPE_AS_IS, .url = SHI "mbpp/test.jsonl"},
    {.path = "mbpp/sanitized-mbpp.json", .bytes = 278372, .sha256 = "8ac32b2799150228e2d745aed09c870b7e4444246d4727d1004576207ef40769",
     .recipe = JPT_RECIPE_AS_IS, .url = PE "sanitized-mbpp.json"},
    {.path = "mbpp/mbpp_3shot_prompt_prefix.txt", .bytes = 1402, .sha256 = "898781b035d34bd4daa03ca5349b4992a32e7e470add2f245dfd4ff454de178e",
     .recipe = JPT_RECIPE_PREFIX, .url = SHI "mbpp/Llama2_input.jsonl", .detail = "instructions"},
};

static const jpt_dataset_file multi30k[] = {
    {.path = "multi30k/test_2016_flickr.de", .bytes = 70649, .sha256 = "4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16",
     .recipe = JPT_RECIPE_GUNZIP, .url = M30 "test_2016_flickr.de.gz"},
    {.path = "multi30k/test_2016_flickr.en", .bytes = 62076, .sha256 = "399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182",
     .recipe = JPT_RECIPE_GUNZIP, .url = M30 "test_2016_flickr.en.gz"},
    {.path = "multi30k/test_2016_flickr.fr", .bytes = 72261, .sha256 = "cb3160d69b002bb638e66cc7612fcd56cb0af82eadc9c142dedc438afb885ef6",
     .recipe = JPT_RECIPE_GUNZIP, .url = M30 "test_2016_flickr.fr.gz"},
    {.path = "multi30k/test_2017_flickr.de", .bytes = 64059, .sha256 = "c3078bc3b36808bf9d20eb2347ed6137016179ef59ec0d2b9b8ecc3fb2880081",
     .recipe = JPT_RECIPE_GUNZIP, .url = M30 "test_2017_flickr.de.gz"},
    {.path = "multi30k/test_2017_flickr.en", .bytes = 55242, .sha256 = "ce1450ddc5ab0834502579d77a170849952e15a2938b34cc503bdc25ebb4fb98",
     .recipe = JPT_RECIPE_GUNZIP, .url = M30 "test_2017_flickr.en.gz"},
    {.path = "multi30k/test_2017_flickr.fr", .bytes = 65691, .sha256 = "6f3764e31dac41e9455e612958bcfd4e877c5e15cd66df2c2b2be6d9bd83e5b6",
     .recipe = JPT_RECIPE_GUNZIP, .url = M30 "test_2017_flickr.fr.gz"},
};

static const jpt_dataset_file wikinews[] = {
    {.path = "wikinews/prompts500.jsonl", .bytes = 1031751, .sha256 = "ec40f2c6705680397c7fc78761a744843e2647dd8ded2a752b469f063b816248",
     .recipe = JPT_RECIPE_AS_IS, .url = SHI "wikinews/test.jsonl"},
};

static const jpt_dataset_file wikitext[] = {
    {.path = "wikitext/prompts500.jsonl", .bytes = 617961, .sha256 = "aa8b2bc37d1912a85567582391c9481b63669feea2c14babe97a85c58e7df79e",
     .recipe = JPT_RECIPE_AS_IS, .url = SHI "wikitext/test.jsonl"},
    {.path = "wikitext/study_prompts100.jsonl", .bytes = 107150, .sha256 = "446e4a27e63922741766a671547c527884da0584ace55a3b4ab40b396f03cde3",
     .recipe = JPT_RECIPE_JOIN, .url = STUDY "open_generation/wikitext_data/sampled_wikitext_data.jsonl", .detail = "instructions,gold_ref", .url2 = STUDY "open_generation/wikitext_data/gold_ref.jsonl"},
    {.path = "wikitext/study_prompts958.jsonl", .bytes = 1025712, .sha256 = "d7dc39d6fda4bfe2fe4912bdad3f4fe0b33e4374c69a6bdb3c94b0223a02dc1a",
     .recipe = JPT_RECIPE_AS_IS, .url = STUDY "open_generation/wikitext_data/wikitext_data.jsonl"},
};

static const jpt_dataset_file wikitext_2_raw[] = {
    {.path = "wikitext/wiki.test.raw", .bytes = 1290590, .sha256 = "173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08",
     .recipe = JPT_RECIPE_FOLDER},
};

static const jpt_dataset_file wmt16[] = {
    {.path = "wmt16/newstest2016_first500.de-en.jsonl", .bytes = 140813, .sha256 = "b61ce2232d526c74260f09d88cde01f92603770f9f2b7b879ca75862caef8f8a",
     .recipe = JPT_RECIPE_FIELDS, .url = STUDY "results/Qwen2.5-Instruct/7B/translation-de-en/greedy/outputs/greedy/run_4/Qwen__Qwen2.5-7B-Instruct/samples_wmt16-de-en_2024-12-30T16-16-53.445169.jsonl", .detail = "doc_id,de=doc.translation.de,en=doc.translation.en"},
};

static const jpt_dataset_file wmt22[] = {
    {.path = "wmt22/generaltest2022.de-en.ref.A.en", .bytes = 192077, .sha256 = "c1125ea38eeaad508fa5e4eec6d6d8a89b72412cf187229e2b6367737248ca72",
     .recipe = JPT_RECIPE_AS_IS, .url = WMT "references/generaltest2022.de-en.ref.A.en"},
    {.path = "wmt22/generaltest2022.de-en.ref.B.en", .bytes = 186527, .sha256 = "6a1528c6488523af49157a814e2c84d71edd3d3f521ab529029eaf0b8b16a74b",
     .recipe = JPT_RECIPE_AS_IS, .url = WMT "references/generaltest2022.de-en.ref.B.en"},
    {.path = "wmt22/generaltest2022.de-en.src.de", .bytes = 199443, .sha256 = "662ca5e5013644daaa457a8a8dadc6e8a7b82174dd678b5d74a27e753bd41c61",
     .recipe = JPT_RECIPE_AS_IS, .url = WMT "sources/generaltest2022.de-en.src.de"},
    {.path = "wmt22/generaltest2022.en-de.ref.A.de", .bytes = 234400, .sha256 = "bbe97089c8da4eef4c927eb8ba1530775202717b11bb453705f4940a68c6ea3b",
     .recipe = JPT_RECIPE_AS_IS, .url = WMT "references/generaltest2022.en-de.ref.A.de"},
    {.path = "wmt22/generaltest2022.en-de.ref.B.de", .bytes = 238897, .sha256 = "28810d584d9958da411f092ef916aafbce9aeb4de9757938f7c8646e7ba73e8a",
     .recipe = JPT_RECIPE_AS_IS, .url = WMT "references/generaltest2022.en-de.ref.B.de"},
    {.path = "wmt22/generaltest2022.en-de.src.en", .bytes = 195954, .sha256 = "4774249b2156cb638009292a6a5280cad7512d78133dd67f249f93701818fa15",
     .recipe = JPT_RECIPE_AS_IS, .url = WMT "sources/generaltest2022.en-de.src.en"},
    {.path = "wmt22/generaltest2022.en-zh.ref.A.zh", .bytes = 175575, .sha256 = "34c6ad879b2f0c42d696baea3348a1e83f00229f4591f9832dc8629fe87835f9",
     .recipe = JPT_RECIPE_AS_IS, .url = WMT "references/generaltest2022.en-zh.ref.A.zh"},
    {.path = "wmt22/generaltest2022.en-zh.src.en", .bytes = 195954, .sha256 = "daaa48521733fcc78ad7ad07edc4ac9c33eb8682fe55bd98096f01175834b872",
     .recipe = JPT_RECIPE_AS_IS, .url = WMT "sources/generaltest2022.en-zh.src.en"},
    {.path = "wmt22/generaltest2022.zh-en.ref.A.en", .bytes = 299038, .sha256 = "ae4830781cf59d46cc7fd1c39620742b0711d8d8535558bd751019ad85c0e3d7",
     .recipe = JPT_RECIPE_AS_IS, .url = WMT "references/generaltest2022.zh-en.ref.A.en"},
    {.path = "wmt22/generaltest2022.zh-en.ref.B.en", .bytes = 297384, .sha256 = "9b10bd69de470be29fddac097fb990fc0de965f6750832f7a8bf62a309f9dfc4",
     .recipe = JPT_RECIPE_AS_IS, .url = WMT "references/generaltest2022.zh-en.ref.B.en"},
    {.path = "wmt22/generaltest2022.zh-en.src.zh", .bytes = 215786, .sha256 = "cd97ff7b65974ef6637f07d3de0b5d8ec8c2978ae7073ae6e92f66c6aa223c09",
     .recipe = JPT_RECIPE_AS_IS, .url = WMT "sources/generaltest2022.zh-en.src.zh"},
};

const jpt_dataset dataset_table[] = {
    {.name = "code2text", .description = "CodeXGLUE code-to-text, 100 test functions each of Python and JavaScript",
     .license = "C-UDA (CodeXGLUE); each snippet under its repository's licence", .citation = "Lu et al. 2021, CodeXGLUE, arXiv 2102.04664; Husain et al. 2019, CodeSearchNet, arXiv 1909.09436",
     .file = code2text, .n_files = sizeof code2text / sizeof *code2text},
    {.name = "gsm8k", .description = "grade-school mathematics, 1,319 test items",
     .license = "MIT", .citation = "Cobbe et al. 2021, Training Verifiers to Solve Math Word Problems, arXiv 2110.14168",
     .file = gsm8k, .n_files = sizeof gsm8k / sizeof *gsm8k},
    {.name = "gsm8k-train", .description = "grade-school mathematics, 7,473 training items: where lm-evaluation-harness draws its examples",
     .license = "MIT", .citation = "Cobbe et al. 2021, Training Verifiers to Solve Math Word Problems, arXiv 2110.14168",
     .file = gsm8k_train, .n_files = sizeof gsm8k_train / sizeof *gsm8k_train},
    {.name = "humaneval", .description = "164 Python functions with unit tests",
     .license = "MIT", .citation = "Chen et al. 2021, Evaluating Large Language Models Trained on Code, arXiv 2107.03374",
     .file = humaneval, .n_files = sizeof humaneval / sizeof *humaneval},
    {.name = "mbpp", .description = "basic Python problems with asserts: 974, 500 of them test, 427 verified by hand",
     .license = "CC BY 4.0", .citation = "Austin et al. 2021, Program Synthesis with Large Language Models, arXiv 2108.07732",
     .file = mbpp, .n_files = sizeof mbpp / sizeof *mbpp},
    {.name = "multi30k", .description = "image captions in English, German and French, test 2016 and 2017 (flickr), 1,000 each",
     .license = "non-commercial research and educational purposes", .citation = "Elliott et al. 2016, Multi30K, arXiv 1605.00459",
     .file = multi30k, .n_files = sizeof multi30k / sizeof *multi30k},
    {.name = "wikinews", .description = "500 Wikinews beginnings with their continuations",
     .license = "CC BY 2.5", .citation = "Li et al. 2023, Contrastive Decoding, arXiv 2210.15097; as in Shi et al. 2024, arXiv 2402.06925",
     .file = wikinews, .n_files = sizeof wikinews / sizeof *wikinews},
    {.name = "wikitext", .description = "WikiText-103 beginnings with their continuations: 100 and 958 of the study, 500 of Shi et al.",
     .license = "CC BY-SA 3.0 and GFDL", .citation = "Merity et al. 2016, Pointer Sentinel Mixture Models, arXiv 1609.07843",
     .file = wikitext, .n_files = sizeof wikitext / sizeof *wikitext},
    {.name = "wikitext-2-raw", .description = "WikiText-2 raw test file (perplexity)",
     .license = "CC BY-SA 3.0 and GFDL", .citation = "Merity et al. 2016, Pointer Sentinel Mixture Models, arXiv 1609.07843",
     .file = wikitext_2_raw, .n_files = sizeof wikitext_2_raw / sizeof *wikitext_2_raw},
    {.name = "wmt16", .description = "newstest2016 German-English, the first 500 pairs, as the study ran them",
     .license = "WMT terms: research use", .citation = "Bojar et al. 2016, Findings of the 2016 Conference on Machine Translation, aclanthology.org/W16-2301",
     .file = wmt16, .n_files = sizeof wmt16 / sizeof *wmt16},
    {.name = "wmt22", .description = "WMT22 general test: de-en 1,984, en-de 2,037, zh-en 1,875, en-zh 2,037 segments",
     .license = "WMT terms: research use", .citation = "Kocmi et al. 2022, Findings of the 2022 Conference on Machine Translation, aclanthology.org/2022.wmt-1.1",
     .file = wmt22, .n_files = sizeof wmt22 / sizeof *wmt22},
};
const size_t dataset_table_n = sizeof dataset_table / sizeof *dataset_table;
