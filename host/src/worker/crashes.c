// Work that brings the whole server down (memory that the system does not have, a fault in an extension) would be begun
// again as soon as the server is back. So a file counts the crashes one after the other during which a worker ran, and the
// launcher waits the longer the more there were. Base backups skip the file for its name.
#include "worker.h"

#include <fcntl.h>
#include <unistd.h>

#include "storage/fd.h"

#define COUNT_FILE "pgsql_tmp_hartonomous_worker"
#define FIRST_PAUSE_S 5
#define MOST_DOUBLED 6

static int crashes = 0;  // before this launcher, one after the other

static int read_count(void) {
  char digits[16] = "";
  int file = OpenTransientFile(COUNT_FILE, O_RDONLY);
  if (file < 0) return 0;
  ssize_t length = read(file, digits, sizeof digits - 1);
  CloseTransientFile(file);
  int count = length > 0 ? atoi(digits) : 0;
  return count < 0 ? 0 : count;
}

int pause_after_crashes_s(void) {
  crashes = read_count();
  if (crashes == 0) return 0;
  int pause = FIRST_PAUSE_S << Min(crashes - 1, MOST_DOUBLED);
  ereport(LOG, (errmsg("the server ended %d times in a row while searches were worked for, which goes on in %d seconds",
                       crashes, pause)));
  return pause;
}

void note_work_begins(void) {
  char digits[16];
  int length = snprintf(digits, sizeof digits, "%d", crashes < PG_INT16_MAX ? crashes + 1 : crashes);
  int file = OpenTransientFile(COUNT_FILE, O_WRONLY | O_CREAT | O_TRUNC);
  if (file < 0) {
    ereport(LOG, (errcode_for_file_access(), errmsg("could not open file \"%s\": %m", COUNT_FILE)));
    return;
  }
  if (write(file, digits, length) != length)
    ereport(LOG, (errcode_for_file_access(), errmsg("could not write file \"%s\": %m", COUNT_FILE)));
  CloseTransientFile(file);
}

void note_work_ended(void) {
  crashes = 0;
  unlink(COUNT_FILE);
}
