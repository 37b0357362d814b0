/* Names and texts of the error codes, from the one table in <smt/error.h>. A switch, so that two
 * codes with one number do not compile. */
#include <smt/error.h>

const char *smt_error_name(int code)
{
    if (code >= 0)
        return "SMT_OK";
    switch (code) {
#define CASE_NAME(name, number, text)                                                              \
    case number:                                                                                   \
        return #name;
        SMT_ERROR_TABLE(CASE_NAME)
#undef CASE_NAME
    default:
        return "SMT_E?";
    }
}

const char *smt_strerror(int code)
{
    if (code >= 0)
        return "success";
    switch (code) {
#define CASE_TEXT(name, number, text)                                                              \
    case number:                                                                                   \
        return text;
        SMT_ERROR_TABLE(CASE_TEXT)
#undef CASE_TEXT
    default:
        return "unknown error";
    }
}
