/* Prints the table of fields for check-fields: name, bit, width, and the kernel's name for it. */
#include <stdio.h>

#include "fields.h"

int main(void)
{
    for (unsigned i = 0; i < MM_N_FIELDS; i++)
        printf("%s %u %u %s\n", mm_fields[i].name, mm_fields[i].bit, mm_fields[i].width,
               mm_fields[i].ifc != NULL ? mm_fields[i].ifc : "-");
    return 0;
}
