/*
 * clock.c
 *		What the kernel says of its clock, and who may read a file.
 *
 * Only read: no mode is set, so no right is needed.  Some containers forbid even
 * that, and then nothing is known.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "leyser.h"

#include <sys/stat.h>
#include <sys/timex.h>

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(leyser_kernel_clock);
PG_FUNCTION_INFO_V1(leyser_file_mode);

static const char *
clock_word(int state)
{
	switch (state)
	{
		case TIME_OK:
			return "ok";
		case TIME_INS:
			return "a leap second will be inserted";
		case TIME_DEL:
			return "a leap second will be left out";
		case TIME_OOP:
		case TIME_WAIT:
			return "a leap second is inserted";
		case TIME_ERROR:
			return "not synchronized";
		default:
			return "unknown";
	}
}

/*
 * kernel_clock(OUT state text, OUT is_synchronized boolean, OUT estimated_error
 * double precision, OUT maximal_error double precision): errors in seconds; all but the
 * state are NULL where the kernel does not say.
 */
Datum
leyser_kernel_clock(PG_FUNCTION_ARGS)
{
	struct timex clock = {.modes = 0};
	int state = ntp_adjtime(&clock);
	Datum values[4];
	bool nulls[4] = {false, state < 0, state < 0, state < 0};
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	/* the errors are in microseconds, whatever STA_NANO says of the offset */
	values[0] = CStringGetTextDatum(clock_word(state));
	values[1] = BoolGetDatum(state != TIME_ERROR && (clock.status & STA_UNSYNC) == 0);
	values[2] = Float8GetDatum(clock.esterror * 1e-6);
	values[3] = Float8GetDatum(clock.maxerror * 1e-6);
	PG_RETURN_DATUM(
		HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* file_mode(path text) → integer: its rights, as chmod takes them; NULL where it cannot be seen. */
Datum
leyser_file_mode(PG_FUNCTION_ARGS)
{
	struct stat file;

	if (stat(text_to_cstring(PG_GETARG_TEXT_PP(0)), &file) != 0)
		PG_RETURN_NULL();
	PG_RETURN_INT32(file.st_mode & 07777);
}
