#!/usr/bin/env python3
"""The 5-shot prompts that lm-evaluation-harness's own sampler makes of a made-up GSM8K of the real one's size (7,473 and 1,319 items):
SHA-256 of all of them, each with a line end, and the first.  tests/unit/test_task_forms.c has the first number.

Needs lm_eval 0.4.9 (its api/samplers.py alone: the packages that it only imports are replaced by empty ones).
"""
import hashlib, random, sys, types
for name in ("datasets",):
    if name not in sys.modules:
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].Dataset = type("Dataset", (), {})
import importlib.util, pathlib

spec = importlib.util.spec_from_file_location("samplers", pathlib.Path(sys.argv[1]) / "lm_eval/api/samplers.py")
samplers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(samplers)


class Task:
    _config = types.SimpleNamespace(target_delimiter=" ", fewshot_delimiter="\n\n", fewshot_config=None, fewshot_split="train", test_split="test", doc_to_choice=None)
    doc_to_choice = None

    def doc_to_text(self, doc):
        return "Question: %s\nAnswer:" % doc["question"]

    def doc_to_target(self, doc):
        return doc["answer"]


train = [{"question": "train %d?" % i, "answer": "%d so\n#### %d" % (i * i, i)} for i in range(7473)]
test = [{"question": "test %d?" % i, "answer": "#### %d" % i} for i in range(1319)]
task = Task()
sampler = samplers.ContextSampler(train, task, rnd=random.Random(1234))
prompts = [sampler.get_context(doc, 5) + task.doc_to_text(doc) for doc in test]
print(hashlib.sha256("".join(p + "\n" for p in prompts).encode()).hexdigest())
print(repr(prompts[0]))
