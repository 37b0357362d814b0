/* Names inside a directory that nobody can lead out of. */
#ifndef SMT_CP_PATH_H
#define SMT_CP_PATH_H

#include <stdbool.h>

/* A relative path with no empty, "." or ".." part? Else a phrase that says what is wrong. "" is the
 * directory itself and fine. */
const char *path_fault(const char *path);

/* Opens the directory that holds the last part of `path`, below `root`, and points *name at that
 * part. No symbolic link is followed; with `make`, missing directories are made. A descriptor
 * (given), or -1 with errno (ELOOP: there is a link on the way). The path must be without fault
 * and not "". */
int path_parent(int root, const char *path, bool make, const char **name);

/* Opens the directory `path` itself in the same way; "" is root. */
int path_dir(int root, const char *path, bool make);

/* Are these two descriptors the same directory? */
bool path_same_dir(int a, int b);

/* Does a link at `path` with this target stay inside the root, whoever follows it? */
bool path_link_is_inside(const char *path, const char *target);

#endif
