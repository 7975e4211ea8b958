// Roles in databases for which there was work: when the last of it began, how it ended, and what was told about them.
#include "worker.h"

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

// Work that failed is tried again after 5 seconds, then after twice as long each time.
#define FIRST_PAUSE_MS 5000
#define MOST_DOUBLED 6

static List* clients = NIL;  // in TopMemoryContext

Client* client_of(Oid database, Oid owner) {
  ListCell* cell;
  foreach (cell, clients) {
    Client* client = lfirst(cell);
    if (client->database == database && client->owner == owner) return client;
  }
  MemoryContext before = MemoryContextSwitchTo(TopMemoryContext);
  Client* client = palloc0(sizeof(Client));
  client->database = database;
  client->owner = owner;
  clients = lappend(clients, client);
  MemoryContextSwitchTo(before);
  return client;
}

void note_end(Client* client, bool well) {
  client->failures = well ? 0 : client->failures + 1;
  client->not_before = well ? 0
                            : TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
                                                          FIRST_PAUSE_MS << Min(client->failures - 1, MOST_DOUBLED));
}

static const char* reason_of(Refusal refusal) {
  switch (refusal) {
    case REFUSED_SUPERUSER:
      return "it is a superuser";
    case REFUSED_EXTENSION_OWNER:
      return "it owns the extension";
    case REFUSED_LOGIN:
      return "it may not log in";
    case REFUSED_CONNECT:
      return "it may not connect to this database";
    case REFUSED_ROLE_LIMIT:
      return "it has as many connections as it may";
    case REFUSED_DATABASE_LIMIT:
      return "this database has as many connections as it may";
    default:
      return NULL;
  }
}

void tell_refusal(Client* client, Refusal refusal) {
  if (client->told == refusal) return;
  client->told = refusal;
  if (refusal == REFUSED_NOT) return;
  bool passes = refusal == REFUSED_ROLE_LIMIT || refusal == REFUSED_DATABASE_LIMIT;
  StartTransactionCommand();
  const char* role = GetUserNameFromId(client->owner, true);
  const char* database = get_database_name(client->database);
  if (role != NULL && database != NULL)
    ereport(passes ? LOG : WARNING,
            (errmsg("changes wait for searches of role %s in database %s, and no worker works for it: %s", role, database,
                    reason_of(refusal)),
             passes ? 0 : errhint("call hartonomous.work() in a session of that role works.")));
  CommitTransactionCommand();
}
