/* What a disk keeps when the power goes, for the program that loads this with LD_PRELOAD.

   Nothing below POWER_WATCHED counts as written until fsync or fdatasync of it has returned. Then
   its content as it is goes to POWER_DISK, under a key that names the inode: a file's bytes, or a
   folder's entries, one `KIND KEY NAME` after another, each ended by a NUL. `power.py` builds from
   the root's entries what a machine would find after the cut: a file that was synced in a folder
   that was not is lost, as POSIX allows, and so is a rename. Content changes by rename, so that a
   kill in the middle of a sync leaves the older one. A mapped file (SQLite's -shm) is not followed:
   SQLite makes it anew. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

static void fail(const char *what) {
    dprintf(2, "power layer: %s: %s\n", what, strerror(errno));
    _exit(99); /* a layer that keeps less than it should would prove nothing */
}

/* An inode number is given again to a new file; with its time of birth it is not. */
static int key_at(int folder, const char *name, char *key, size_t size, int *is_folder) {
    struct statx found;
    int flags = AT_SYMLINK_NOFOLLOW | (*name ? 0 : AT_EMPTY_PATH);
    if (statx(folder, name, flags, STATX_TYPE | STATX_INO | STATX_BTIME, &found) != 0)
        return -1;
    *is_folder = S_ISDIR(found.stx_mode);
    snprintf(key, size, "%llx-%llx-%x", (unsigned long long)found.stx_ino,
             (unsigned long long)found.stx_btime.tv_sec, found.stx_btime.tv_nsec);
    return 0;
}

static int is_watched(int fd) {
    const char *watched = getenv("POWER_WATCHED");
    char link[64], path[PATH_MAX];
    if (watched == NULL)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    size_t root = strlen(watched);
    return strncmp(path, watched, root) == 0 && (path[root] == 0 || path[root] == '/');
}

static void keep_bytes(int fd, int out) {
    static char block[1 << 16];
    off_t at = 0;
    ssize_t length;
    while ((length = pread(fd, block, sizeof block, at)) > 0) {
        if (write(out, block, length) != length)
            fail("write");
        at += length;
    }
    if (length < 0)
        fail("pread");
}

static void keep_entries(int fd, int out) {
    int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = own < 0 ? NULL : fdopendir(own);
    if (folder == NULL)
        fail("opendir");
    struct dirent *entry;
    while ((entry = readdir(folder)) != NULL) {
        char key[80], line[sizeof key + NAME_MAX + 8];
        int is_folder;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (key_at(own, entry->d_name, key, sizeof key, &is_folder) != 0)
            continue; /* removed meanwhile */
        int length = snprintf(line, sizeof line, "%c %s %s", is_folder ? 'd' : 'f', key,
                              entry->d_name);
        if (write(out, line, length + 1) != length + 1)
            fail("write");
    }
    closedir(folder);
}

static void keep(int fd) {
    const char *disk = getenv("POWER_DISK");
    char key[80], final[PATH_MAX], part[PATH_MAX];
    int is_folder, reading = fd;
    if (disk == NULL || key_at(fd, "", key, sizeof key, &is_folder) != 0)
        fail("stat");
    snprintf(final, sizeof final, "%s/%s", disk, key);
    snprintf(part, sizeof part, "%s/.part-%d", disk, (int)getpid());
    int out = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (out < 0)
        fail(part);
    if (!is_folder && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY) {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        if ((reading = open(link, O_RDONLY | O_CLOEXEC)) < 0)
            fail("open");
    }
    (is_folder ? keep_entries : keep_bytes)(reading, out);
    /* To close any descriptor of a file drops the process's POSIX locks on it. SQLite's own
       can be read, so none is opened for them. */
    if (reading != fd)
        close(reading);
    close(out);
    if (rename(part, final) != 0)
        fail("rename");
}

static int synced(const char *name, int fd) {
    int (*really)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int result = really(fd);
    if (result == 0 && is_watched(fd)) {
        pthread_mutex_lock(&one_at_a_time);
        keep(fd);
        pthread_mutex_unlock(&one_at_a_time);
    }
    return result;
}

int fsync(int fd) { return synced("fsync", fd); }
int fdatasync(int fd) { return synced("fdatasync", fd); }
