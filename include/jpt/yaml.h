/* YAML files by a libcyaml schema, with messages that name the file and the line. */
#ifndef JPT_YAML_H
#define JPT_YAML_H

#include <cyaml/cyaml.h>
#include <jpt/base.h>

/* The text of the file at `path` (given, for hashing and includes) as the schema's top mapping.  JPT_FORMAT: what libcyaml
 * says, with the place; an empty file is refused.  Release with jpt_yaml_free. */
jpt_status jpt_yaml_load(const char *path, const jpt_buf *text, const cyaml_schema_value_t *schema, void **out, jpt_error *err);
void       jpt_yaml_free(const cyaml_schema_value_t *schema, void *data); /* NULL accepted */

#endif
