/* Inside the whole-answer strategies: what a text answers, and when a vote is settled. */
#ifndef JPT_VOTE_H
#define JPT_VOTE_H

#include <jpt/base.h>

/* How the answer of a text is found: the last number as a value (18.00 is 18) or as it is written (lm-evaluation-harness's vote), the
 * last capital letter that stands alone ("(C)", "B."), the last yes, no, true or false, or the whole text without space around it. */
typedef enum jpt_answer_kind { JPT_ANSWER_NUMBER, JPT_ANSWER_STRING, JPT_ANSWER_CHOICE, JPT_ANSWER_BOOLEAN, JPT_ANSWER_TEXT, JPT_ANSWER_KINDS } jpt_answer_kind;

/* The kind named "number", "string", "choice", "boolean" or "text"; JPT_ANSWER_KINDS: none of them. */
jpt_answer_kind jpt_answer_kind_named(const char *name);
/* Append what the text answers, so that equal answers are equal bytes; nothing when it answers nothing, which counts as an answer. */
void jpt_answer_of(jpt_answer_kind kind, jpt_str text, jpt_buf *out);

/* Probability that the most frequent of two answers, seen `first` and `second` times, is the likelier one: with a flat prior
 * 1 - I(1/2; first + 1, second + 1), the stopping rule of Adaptive-Consistency (Aggarwal et al. 2023). */
double jpt_vote_certainty(int32_t first, int32_t second);

#endif
