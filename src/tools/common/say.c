/* One failure, one line. The progress line is erased first, so that the two never mix. */
#include "say.h"

#include <stdarg.h>
#include <stdio.h>

#include "progress.h"

static const char *tool_name = "smt";

void say_name(const char *name)
{
    tool_name = name;
}

const char *say_get_name(void)
{
    return tool_name;
}

void say_error(const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    for (char *p = text; *p != '\0'; p++) {
        if (*p == '\n' || *p == '\r') {
            *p = ' ';
        }
    }
    progress_clear();
    fprintf(stderr, "%s: %s\n", tool_name, text);
}
