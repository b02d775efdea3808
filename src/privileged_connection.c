/*
 * privileged_connection.c
 *		Replication connections: base backups, standbys, logical replication.
 *
 * They carry every tenant's rows away, and no hook sees what they send.  So who comes
 * is recorded: the server log has a line at once.  The event is written by each
 * database that has leyser when its heartbeat comes next, and in no hurry, for the
 * process that serves such a connection has no database.  The last RING of them wait in
 * shared memory; a database that comes too late for some records how many it missed.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "privileged.h"

#include "access/xlog.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "replication/walsender.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "port.h"

#define RING 256
#define COLUMNS 6

typedef struct Connection
{
	TimestampTz at;
	char role[NAMEDATALEN];
	char database[NAMEDATALEN]; /* empty: physical */
	char application[NAMEDATALEN];
	char address[LEYSER_ADDRESS_MAX];
} Connection;

typedef struct ConnectionShared
{
	LWLock *lock;
	int64 count; /* since the server's start */
	Connection ring[RING];
} ConnectionShared;

static ConnectionShared *shared = NULL;

static ClientAuthentication_hook_type prev_client_authentication = NULL;
static shmem_request_hook_type prev_shmem_request = NULL;
static shmem_startup_hook_type prev_shmem_startup = NULL;

PG_FUNCTION_INFO_V1(leyser_list_replication);

static void
connection_shmem_request(void)
{
	if (prev_shmem_request)
		prev_shmem_request();
	RequestAddinShmemSpace(MAXALIGN(sizeof(ConnectionShared)));
	RequestNamedLWLockTranche("leyser replication connections", 1);
}

static void
connection_shmem_startup(void)
{
	bool found;

	if (prev_shmem_startup)
		prev_shmem_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("leyser replication connections", sizeof(ConnectionShared),
							 &found);
	if (!found)
	{
		memset(shared, 0, sizeof(ConnectionShared));
		shared->lock = &GetNamedLWLockTranche("leyser replication connections")->lock;
	}
	LWLockRelease(AddinShmemInitLock);
}

/* ---- who comes ---- */

static void
connection_copy(char *into, const char *from)
{
	strlcpy(into, from ? from : "", NAMEDATALEN);
}

static void
connection_fill(Connection *one, const Port *port)
{
	memset(one, 0, sizeof(Connection));
	one->at = GetCurrentTimestamp();
	connection_copy(one->role, port->user_name);
	connection_copy(one->application, port->application_name);
	if (am_db_walsender)
		connection_copy(one->database, port->database_name);
	leyser_port_address(port, one->address);
}

static void
connection_add_word(StringInfo line, const char *name, const char *value)
{
	if (value[0] == '\0')
		return;
	appendStringInfo(line, ", \"%s\": ", name);
	escape_json(line, value);
}

static void
connection_tell(const Connection *one)
{
	StringInfoData line;

	initStringInfo(&line);
	appendStringInfoString(&line, "{\"event\": \"replication.connected\"");
	connection_add_word(&line, "session_role", one->role);
	connection_add_word(&line, "client_address", one->address);
	connection_add_word(&line, "database", one->database);
	connection_add_word(&line, "application", one->application);
	ereport(LOG_SERVER_ONLY, (errhidestmt(true), errhidecontext(true),
							  errmsg("leyser event: %s}", line.data)));
	pfree(line.data);
}

static void
connection_authenticated(Port *port, int status)
{
	Connection one;

	if (prev_client_authentication)
		prev_client_authentication(port, status);
	if (status != STATUS_OK || !am_walsender || !leyser_privileged_is_watched())
		return;
	connection_fill(&one, port);
	connection_tell(&one);
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	shared->ring[shared->count++ % RING] = one;
	LWLockRelease(shared->lock);
}

/* ---- SQL ---- */

static void
connection_put(ReturnSetInfo *rsinfo, int64 number, const Connection *one)
{
	const char *texts[] = {one->role, one->database, one->application, one->address};
	Datum values[COLUMNS];
	bool nulls[COLUMNS] = {false};

	values[0] = Int64GetDatum(number);
	values[1] = TimestampTzGetDatum(one->at);
	for (int i = 0; i < (int) lengthof(texts); i++)
	{
		nulls[i + 2] = texts[i][0] == '\0';
		values[i + 2] = nulls[i + 2] ? (Datum) 0 : CStringGetTextDatum(texts[i]);
	}
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* list_replication(after bigint) → setof (…): the connections with higher numbers */
Datum
leyser_list_replication(PG_FUNCTION_ARGS)
{
	int64 after = PG_GETARG_INT64(0);

	leyser_require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	LWLockAcquire(shared->lock, LW_SHARED);
	for (int64 i = Max(Max(after, 0), shared->count - RING); i < shared->count; i++)
		connection_put((ReturnSetInfo *) fcinfo->resultinfo, i + 1,
					   &shared->ring[i % RING]);
	LWLockRelease(shared->lock);
	return (Datum) 0;
}

void
leyser_privileged_connection_init(void)
{
	prev_shmem_request = shmem_request_hook;
	shmem_request_hook = connection_shmem_request;
	prev_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = connection_shmem_startup;
	prev_client_authentication = ClientAuthentication_hook;
	ClientAuthentication_hook = connection_authenticated;
}
