/* What a tool says: one line per failure on standard error, and the exit codes. */
#ifndef SMT_TOOLS_SAY_H
#define SMT_TOOLS_SAY_H

enum tool_exit {
    TOOL_OK = 0,
    TOOL_USAGE = 1,      /* the command line is wrong */
    TOOL_CONNECTION = 2, /* credentials, port, peer */
    TOOL_ERRORS = 3,     /* the run itself had errors */
};

/* Names the tool in every line; borrowed for ever (a literal or argv[0]). */
void say_name(const char *name);
const char *say_get_name(void);

/* "NAME: text\n" on standard error; line breaks inside the text become spaces. */
void say_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
