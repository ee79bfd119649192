/* Tokenizer construction from hostile specs (messages name the index), linear cost, streaming, chat defaults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jpt/token.h>
#include <stdlib.h>
#include <string.h>

static jpt_str        tokens[] = {{"a", 1}, {"b", 1}, {"ab", 2}, {"<s>", 3}, {"\xC4\xA0", 2}, {"<|im_end|>", 10}, {"\xC3\xA2", 2}, {"\xC4\xA4", 2}, {"\xC2\xAC", 2}};
static int32_t        types[] = {1, 1, 1, 3, 1, 3, 1, 1, 1};
static jpt_str        merges[] = {{"a b", 3}, {"a ab", 4}};

static jpt_token_spec good(void) {
    jpt_token_spec s = JPT_TOKEN_SPEC_INIT;
    s.kind = JPT_TOKEN_BPE;
    s.pre = jpt_str_z("gpt-2");
    s.tokens = tokens;
    s.types = types;
    s.n_tokens = sizeof tokens / sizeof tokens[0];
    s.merges = merges;
    s.n_merges = 1;
    s.bos = 3;
    return s;
}

static void refused(jpt_token_spec s, jpt_status code, const char *says) {
    jpt_error      err = {0};
    jpt_tokenizer *tok = NULL;
    assert_int_equal(jpt_tokenizer_new(&s, &tok, &err), code);
    assert_null(tok);
    if (!strstr(err.msg, says))
        fail_msg("'%s' does not say '%s'", err.msg, says);
}

static void test_refusals(void **state) {
    (void)state;
    jpt_token_spec s = good();
    s.pre = jpt_str_z("falcon");
    refused(s, JPT_UNSUPPORTED, "'falcon' is not known; known are gpt-2, smollm, llama-bpe, qwen2");
    s = good(), s.n_merges = 2;
    refused(s, JPT_FORMAT, "merge 1 ('a ab') has a result that is not in the vocabulary");
    jpt_str no_gap[] = {{"ab", 2}};
    s = good(), s.merges = no_gap;
    refused(s, JPT_FORMAT, "merge 0 is 'ab'");
    s = good(), s.eos = 9;
    refused(s, JPT_FORMAT, "eos id is 9, but there are 9 tokens");
    s = good(), s.bos = -2;
    refused(s, JPT_FORMAT, "bos id is -2");
    jpt_str twice[] = {{"x", 1}, {"y", 1}, {"x", 1}};
    s = good(), s.tokens = twice, s.n_tokens = 3, s.n_merges = 0, s.bos = -1;
    refused(s, JPT_FORMAT, "tokens 0 and 2 have the same text 'x'");
    int32_t bad_types[] = {1, 1, 7, 1, 1, 1, 1, 1, 1};
    s = good(), s.types = bad_types;
    refused(s, JPT_FORMAT, "token 2 has type 7");
    s = good(), s.n_tokens = 0;
    refused(s, JPT_FORMAT, "0 tokens");
    s = good(), s.kind = JPT_TOKEN_SPM;
    refused(s, JPT_FORMAT, "needs scores");
    float scores[9] = {0, 0, 0, 0, __builtin_nanf("")};
    s.scores = scores;
    refused(s, JPT_FORMAT, "score of token 4 is not a finite number");
    int32_t eog[] = {100};
    s = good(), s.eog = eog, s.n_eog = 1;
    refused(s, JPT_FORMAT, "end-of-generation id is 100");
}

static void test_questions(void **state) {
    (void)state;
    jpt_token_spec s = good();
    jpt_tokenizer *tok = NULL;
    jpt_error      err = {0};
    s.add_bos = true;
    assert_int_equal(jpt_tokenizer_new(&s, &tok, &err), JPT_OK);
    assert_int_equal(jpt_tokenizer_n_vocab(tok), 9);
    assert_int_equal(jpt_tokenizer_find(tok, jpt_str_z("ab")), 2);
    assert_int_equal(jpt_tokenizer_find(tok, jpt_str_z("abc")), -1);
    assert_true(jpt_tokenizer_is_eog(tok, 5));
    assert_false(jpt_tokenizer_is_eog(tok, 3));
    assert_false(jpt_tokenizer_is_eog(tok, -1));
    assert_true(jpt_str_eqz(jpt_token_piece(tok, 4), " "));
    assert_int_equal(jpt_token_piece(tok, 9).n, 0);

    jpt_ids ids = {0};
    assert_int_equal(jpt_tokenizer_encode(tok, "ab<s>", 5, JPT_ENCODE_ADD_SPECIAL | JPT_ENCODE_PARSE_SPECIAL, &ids, &err), JPT_OK);
    assert_int_equal(ids.n, 3);
    assert_int_equal(ids.p[0], 3);
    assert_int_equal(ids.p[1], 2);
    assert_int_equal(ids.p[2], 3);
    ids.n = 0; /* without PARSE_SPECIAL the text is text; '<', 's', '>' have no token here and are left out */
    assert_int_equal(jpt_tokenizer_encode(tok, "ab<s>", 5, 0, &ids, &err), JPT_OK);
    assert_int_equal(ids.n, 1);

    jpt_buf out = {0};
    int32_t wrong = 9;
    assert_int_equal(jpt_tokenizer_decode(tok, &wrong, 1, 0, &out, &err), JPT_ARG);
    assert_non_null(strstr(err.msg, "token id 9 is outside the vocabulary of 9"));

    /* U+20AC as three tokens: nothing before the last; cut short: one U+FFFD */
    int32_t   euro[] = {6, 7, 8};
    jpt_detok d;
    jpt_detok_init(&d, tok, 0);
    assert_int_equal(jpt_detok_push(&d, euro[0], &out, NULL), JPT_OK);
    assert_int_equal(jpt_detok_push(&d, euro[1], &out, NULL), JPT_OK);
    assert_int_equal(out.n, 0);
    assert_int_equal(jpt_detok_push(&d, euro[2], &out, NULL), JPT_OK);
    assert_string_equal(out.p, "\xE2\x82\xAC");
    jpt_buf_reset(&out);
    assert_int_equal(jpt_detok_push(&d, euro[0], &out, NULL), JPT_OK);
    assert_int_equal(jpt_detok_push(&d, euro[1], &out, NULL), JPT_OK);
    assert_int_equal(jpt_detok_flush(&d, &out, NULL), JPT_OK);
    assert_string_equal(out.p, "\xEF\xBF\xBD");
    jpt_buf_reset(&out);
    assert_int_equal(jpt_detok_push(&d, euro[0], &out, NULL), JPT_OK);
    assert_int_equal(jpt_detok_push(&d, 0, &out, NULL), JPT_OK);
    assert_string_equal(out.p, "\xEF\xBF\xBD" "a");
    jpt_buf_reset(&out);
    jpt_detok_init(&d, tok, JPT_DECODE_SKIP_SPECIAL);
    assert_int_equal(jpt_detok_push(&d, 5, &out, NULL), JPT_OK);
    assert_int_equal(jpt_detok_push(&d, 2, &out, NULL), JPT_OK);
    assert_string_equal(out.p, "ab");
    jpt_buf_fini(&out);
    jpt_ids_fini(&ids);
    jpt_tokenizer_free(tok);
    jpt_tokenizer_free(NULL);
}

/* CPU time for eight times the text must not grow anything like 64 times. */
static void test_linear(void **state) {
    (void)state;
    jpt_token_spec s = good();
    jpt_tokenizer *tok = NULL;
    assert_int_equal(jpt_tokenizer_new(&s, &tok, NULL), JPT_OK);
    double seconds[2];
    for (int k = 0; k < 2; k++) {
        size_t n = k ? 1u << 20 : 1u << 17;
        char  *text = malloc(n);
        for (size_t i = 0; i < n; i++)
            text[i] = "ab"[i & 1];
        jpt_ids ids = {0};
        double  before = jpt_process_cpu_s();
        assert_int_equal(jpt_tokenizer_encode(tok, text, n, JPT_ENCODE_PARSE_SPECIAL, &ids, NULL), JPT_OK);
        seconds[k] = jpt_process_cpu_s() - before;
        assert_int_equal(ids.n, n / 2);
        jpt_ids_fini(&ids);
        free(text);
    }
    printf("one word of 128 KiB: %.3f s, of 1 MiB: %.3f s\n", seconds[0], seconds[1]);
    assert_true(seconds[1] < 32 * seconds[0] + 0.1);
    jpt_tokenizer_free(tok);
}

static void test_chat(void **state) {
    (void)state;
    assert_int_equal(jpt_chat_detect(jpt_str_z("x <|im_start|> y")), JPT_CHAT_CHATML);
    assert_int_equal(jpt_chat_detect(jpt_str_z("<|start_header_id|>")), JPT_CHAT_LLAMA3);
    assert_int_equal(jpt_chat_detect(jpt_str_z("[INST] <<SYS>>")), JPT_CHAT_LLAMA2);
    assert_int_equal(jpt_chat_detect(jpt_str_z("[INST] ")), JPT_CHAT_MISTRAL);
    assert_int_equal(jpt_chat_detect((jpt_str){NULL, 0}), JPT_CHAT_NONE);
    assert_string_equal(jpt_chat_name(JPT_CHAT_LLAMA3), "llama3");
    jpt_buf out = {0};
    jpt_chat_default_system(jpt_str_z("{{ '<|im_start|>system\\n' + m + '<|im_end|>' }}"), &out);
    assert_int_equal(out.n, 0);
    jpt_chat_default_system(jpt_str_z("{{ '<|im_start|>system\\n' + m }}{{ '<|im_start|>system\\nYou\\'re \"x\"\\ny<|im_end|>' }}"), &out);
    assert_string_equal(out.p, "You're \"x\"\ny");
    jpt_buf_fini(&out);
    jpt_token_spec s = good();
    jpt_tokenizer *tok = NULL;
    jpt_error      err = {0};
    assert_int_equal(jpt_tokenizer_new(&s, &tok, NULL), JPT_OK);
    assert_int_equal(jpt_chat_format(JPT_CHAT_NONE, tok, NULL, 0, true, &out, &err), JPT_UNSUPPORTED);
    jpt_tokenizer_free(tok);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_refusals), cmocka_unit_test(test_questions),
                                       cmocka_unit_test(test_linear), cmocka_unit_test(test_chat)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
