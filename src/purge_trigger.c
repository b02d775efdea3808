/*
 * purge_trigger.c
 *		Deletions without users' triggers, with referential integrity.
 *
 * History and audit tables would get back what is erased, and other triggers
 * would act on what they take for a user's deletion.  What the server's own
 * triggers of foreign keys do, in nested statements too, is done.  So while the
 * purge worker deletes, an ExecutorStart hook leaves only those in the result
 * relations.  (session_replication_role would also drop integrity, and still fire
 * ENABLE ALWAYS triggers.)
 *
 * What foreign keys do in answer (ON DELETE CASCADE, SET NULL, SET DEFAULT) must find
 * nothing: children go before parents, and the plan counted the rows that stay and
 * refer to rows that go.  Whoever made such a row, or such a key, since then would
 * have it deleted or changed.  So a statement other than the purge's own that
 * changed a row is an error; the next plan names what stops it.  Foreign keys that
 * are checked for all rows of a batch at once (purge_reference.c) need no trigger.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "purge.h"

#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "compat.h"

static const char *own_statement = NULL; /* while triggers are off */
static List *checked_keys = NIL;         /* foreign keys, while triggers are off */
static ExecutorStart_hook_type previous_executor_start = NULL;
static ExecutorRun_hook_type previous_executor_run = NULL;

/* What the server itself attached to keep constraints. */
static bool
trigger_is_kept(const Trigger *trigger)
{
	int type = RI_FKey_trigger_type(trigger->tgfoid);

	if (type == RI_TRIGGER_PK && list_member_oid(checked_keys, trigger->tgconstraint))
		return false;
	return trigger->tgisinternal &&
		   (type != RI_TRIGGER_NONE || trigger->tgfoid == F_UNIQUE_KEY_RECHECK);
}

/* Which events the remaining triggers are for. */
static void
triggers_describe(TriggerDesc *triggers)
{
	triggers->trig_delete_before_row = triggers->trig_update_before_row = false;
	triggers->trig_delete_instead_row = triggers->trig_update_instead_row = false;
	triggers->trig_delete_before_statement = false;
	triggers->trig_delete_after_statement = false;
	triggers->trig_update_before_statement = false;
	triggers->trig_update_after_statement = false;
	triggers->trig_delete_old_table = false;
	triggers->trig_update_old_table = triggers->trig_update_new_table = false;
	triggers->trig_delete_after_row = triggers->trig_update_after_row = false;
	for (int i = 0; i < triggers->numtriggers; i++)
	{
		int16 type = triggers->triggers[i].tgtype;

		triggers->trig_delete_after_row |= TRIGGER_FOR_DELETE(type);
		triggers->trig_update_after_row |= TRIGGER_FOR_UPDATE(type);
	}
}

/*
 * The result relation has a copy of its own of the relation's triggers, whose
 * array we shorten in place; arrays beside it stay longer than needed.
 */
static void
triggers_filter(ResultRelInfo *target)
{
	TriggerDesc *triggers = target->ri_TrigDesc;
	int kept = 0;

	if (triggers == NULL)
		return;
	for (int i = 0; i < triggers->numtriggers; i++)
	{
		if (trigger_is_kept(&triggers->triggers[i]))
			triggers->triggers[kept++] = triggers->triggers[i];
	}
	triggers->numtriggers = kept;
	triggers_describe(triggers);
}

/* Nobody is left to read what transition tables would collect. */
static void
transition_tables_drop(PlanState *plan)
{
	if (plan != NULL && IsA(plan, ModifyTableState))
	{
		((ModifyTableState *) plan)->mt_transition_capture = NULL;
		((ModifyTableState *) plan)->mt_oc_transition_capture = NULL;
	}
}

static void
trigger_executor_start(QueryDesc *queryDesc, int eflags)
{
	ListCell *cell;

	if (previous_executor_start)
		previous_executor_start(queryDesc, eflags);
	else
		standard_ExecutorStart(queryDesc, eflags);
	if (own_statement == NULL)
		return;
	foreach (cell, queryDesc->estate->es_opened_result_relations)
		triggers_filter(lfirst(cell));
	transition_tables_drop(queryDesc->planstate);
	foreach (cell, queryDesc->estate->es_subplanstates)
		transition_tables_drop(lfirst(cell));
}

/* Rows that stay were changed, which the transaction takes back. */
static void
refuse_answer(EState *estate)
{
	Relation rel =
		((ResultRelInfo *) linitial(estate->es_opened_result_relations))->ri_RelationDesc;

	ereport(ERROR,
			(errcode(LEYSER_ERRCODE_WRONG_STATE),
			 errmsg("rows of \"%s\" refer to rows that go", RelationGetRelationName(rel)),
			 errdetail("A foreign key would have deleted or changed them (rows: %llu).",
					   (unsigned long long) estate->es_processed),
			 errhint("leyser.purge_plan() tells which foreign key that is."),
			 errtable(rel)));
}

static void
trigger_executor_run(LEYSER_EXECUTOR_RUN_PARAMS)
{
	if (previous_executor_run)
		previous_executor_run(LEYSER_EXECUTOR_RUN_ARGS);
	else
		standard_ExecutorRun(LEYSER_EXECUTOR_RUN_ARGS);
	if (own_statement != NULL && queryDesc->estate->es_processed > 0 &&
		(queryDesc->operation == CMD_DELETE || queryDesc->operation == CMD_UPDATE) &&
		strcmp(queryDesc->sourceText, own_statement) != 0)
		refuse_answer(queryDesc->estate);
}

void
leyser_purge_trigger_init(void)
{
	previous_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = trigger_executor_start;
	previous_executor_run = ExecutorRun_hook;
	ExecutorRun_hook = trigger_executor_run;
}

void
leyser_purge_triggers_off(const char *statement, List *checked)
{
	own_statement = statement;
	checked_keys = checked;
}

void
leyser_purge_triggers_on(void)
{
	own_statement = NULL;
	checked_keys = NIL;
}

/*
 * A trigger cannot be deferred out of a restricted operation, and where children go
 * before parents there is nothing to wait for.
 */
void
leyser_purge_constraints_immediate(void)
{
	ConstraintsSetStmt *all = makeNode(ConstraintsSetStmt);

	all->constraints = NIL;
	all->deferred = false;
	AfterTriggerSetState(all);
}
