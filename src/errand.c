/*
 * errand.c
 *		A background worker that does one thing, while its caller waits.
 *
 * A caller that is cancelled takes the worker along: what it was to do is then done,
 * or not at all.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "errand.h"

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/resowner.h"

static BackgroundWorkerHandle *
errand_start(const char *function, const char *name, dsm_segment *segment)
{
	BackgroundWorker worker = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = BGW_NEVER_RESTART,
		.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(segment)),
		.bgw_notify_pid = MyProcPid};
	BackgroundWorkerHandle *handle;

	strlcpy(worker.bgw_library_name, "leyser", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, function, BGW_MAXLEN);
	strlcpy(worker.bgw_name, name, BGW_MAXLEN);
	strlcpy(worker.bgw_type, name, BGW_MAXLEN);
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
						errmsg("could not start a %s", name),
						errdetail("All background worker slots are in use."),
						errhint("Raise max_worker_processes.")));
	return handle;
}

void
leyser_errand_run(const char *function, const char *name, dsm_segment *segment)
{
	BackgroundWorkerHandle *handle = errand_start(function, name, segment);

	PG_TRY();
	{
		if (WaitForBackgroundWorkerShutdown(handle) == BGWH_POSTMASTER_DIED)
			proc_exit(1);
	}
	PG_CATCH();
	{
		TerminateBackgroundWorker(handle);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

void *
leyser_errand_attach(Datum arg)
{
	dsm_segment *segment;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	CurrentResourceOwner = ResourceOwnerCreate(NULL, "leyser errand");
	segment = dsm_attach(DatumGetUInt32(arg));
	if (segment == NULL)
		return NULL;
	dsm_pin_mapping(segment);
	return dsm_segment_address(segment);
}
