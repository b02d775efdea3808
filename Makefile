# leyser: built with PGXS against the server that PG_CONFIG names.
#
#   make; make install           build and install for that server
#   make demo                    a private cluster that tells what leyser does
#   make check                   every test that takes minutes
#   make check-long              kills, soaks, packages from npm, other PostgreSQL versions
#   make check-versions          PostgreSQL 17 and 18 in chroots of their own
#   make bench                   figures, both sides in one run
#   make installcheck            the tests against a running server (PGHOST, PGPORT)

MODULE_big = leyser
OBJS = \
	src/leyser.o \
	src/encoding.o \
	src/keyring.o \
	src/place.o \
	src/keyring_directory.o \
	src/keyring_write.o \
	src/token.o \
	src/token_json.o \
	src/token_claims.o \
	src/token_memory.o \
	src/token_signature.o \
	src/relation.o \
	src/pause.o \
	src/owner.o \
	src/purge_order.o \
	src/purge_condition.o \
	src/purge_names.o \
	src/purge_plain.o \
	src/fence.o \
	src/fence_file.o \
	src/fence_owner.o \
	src/fence_text.o \
	src/purge_count.o \
	src/custodian.o \
	src/cache.o \
	src/fence_tables.o \
	src/fence_look.o \
	src/cache_fence.o \
	src/cache_key.o \
	src/cache_tenant.o \
	src/cache_table.o \
	src/cache_account.o \
	src/cache_grant.o \
	src/cache_permission.o \
	src/context.o \
	src/context_block.o \
	src/context_check.o \
	src/context_sql.o \
	src/contract.o \
	src/name.o \
	src/script.o \
	src/gateway.o \
	src/permission.o \
	src/permission_notes.o \
	src/portal.o \
	src/event.o \
	src/audit.o \
	src/audit_image.o \
	src/audit_follow.o \
	src/audit_memory.o \
	src/audit_table.o \
	src/refusal.o \
	src/event_digest.o \
	src/event_insert.o \
	src/event_month.o \
	src/event_chain.o \
	src/event_verify.o \
	src/program.o \
	src/program_start.o \
	src/program_stray.o \
	src/mail.o \
	src/pgbackrest.o \
	src/backup.o \
	src/backup_directory.o \
	src/backup_tree.o \
	src/backup_manifest.o \
	src/backup_take.o \
	src/backup_clean.o \
	src/backup_books.o \
	src/backup_judge.o \
	src/backup_worker.o \
	src/task.o \
	src/worker.o \
	src/launcher.o \
	src/purge.o \
	src/purge_step.o \
	src/purge_trigger.o \
	src/purge_places.o \
	src/purge_reference.o \
	src/purge_batch.o \
	src/fence_keep.o \
	src/fence_sql.o \
	src/replay.o \
	src/purge_fence.o \
	src/purge_delete.o \
	src/purge_scrub.o \
	src/purge_standby.o \
	src/purge_call.o \
	src/tick.o \
	src/work.o \
	src/step.o \
	src/adopt.o \
	src/adopt_index.o \
	src/adopt_batch.o \
	src/tenant_column.o \
	src/each_tenant.o \
	src/import.o \
	src/errand.o \
	src/attack.o \
	src/attack_client.o \
	src/other_database.o \
	src/worker_settings.o \
	src/password.o \
	src/password_log.o \
	src/session.o \
	src/support.o \
	src/disclosure.o \
	src/export.o \
	src/context_gap.o \
	src/observe.o \
	src/observe_plan.o \
	src/observe_rows.o \
	src/suspend.o \
	src/undeclared.o \
	src/connection.o \
	src/transport.o \
	src/clock.o \
	src/protection.o \
	src/lookup_count.o \
	src/lookup.o \
	src/follow.o \
	src/alter.o \
	src/call_as.o \
	src/duty.o \
	src/privileged.o \
	src/privileged_own.o \
	src/privileged_count.o \
	src/privileged_write.o \
	src/privileged_window.o \
	src/privileged_ddl.o \
	src/privileged_connection.o \
	src/guard.o \
	src/guard_own.o \
	src/scrub.o \
	src/scrub_file.o \
	src/scrub_index.o \
	src/scrub_pace.o \
	src/scrub_page.o \
	src/scrub_replica.o \
	src/scrub_sql.o \
	src/scrub_standby.o \
	src/scrub_statistics.o \
	src/scrub_utility.o \
	src/scrub_wal.o

# The parts of the install script, in the order in which they build on each other.
SQL_PARTS = \
	sql/header.sql \
	sql/tables.sql \
	sql/event_tables.sql \
	sql/account_tables.sql \
	sql/purge_tables.sql \
	sql/backup_tables.sql \
	sql/schedule_tables.sql \
	sql/fence_tables.sql \
	sql/work_tables.sql \
	sql/adopt_tables.sql \
	sql/export_tables.sql \
	sql/disclosure_tables.sql \
	sql/privileged_tables.sql \
	sql/check_tables.sql \
	sql/white_paper_tables.sql \
	sql/notice_tables.sql \
	sql/keyring.sql \
	sql/transport.sql \
	sql/context.sql \
	sql/tenant.sql \
	sql/observe.sql \
	sql/bypassing.sql \
	sql/table_gap.sql \
	sql/table_kind.sql \
	sql/permission_check.sql \
	sql/permission_policy.sql \
	sql/policy.sql \
	sql/protect.sql \
	sql/lookup.sql \
	sql/constraint.sql \
	sql/suspend.sql \
	sql/account_name.sql \
	sql/permission.sql \
	sql/role.sql \
	sql/grant.sql \
	sql/revoke.sql \
	sql/permission_answer.sql \
	sql/support.sql \
	sql/password.sql \
	sql/account.sql \
	sql/session_task.sql \
	sql/session.sql \
	sql/account_change.sql \
	sql/contract.sql \
	sql/contract_hold.sql \
	sql/external_store.sql \
	sql/purge_target.sql \
	sql/contract_end.sql \
	sql/purge_rest.sql \
	sql/purge_stop.sql \
	sql/purge_plan.sql \
	sql/purge_blocker.sql \
	sql/fence.sql \
	sql/purge_step.sql \
	sql/purge_outside.sql \
	sql/purge_scrub.sql \
	sql/backup_policy.sql \
	sql/backup_state.sql \
	sql/backup.sql \
	sql/take_backup.sql \
	sql/backup_decision.sql \
	sql/backup_catalogue.sql \
	sql/backup_catalogue_barman.sql \
	sql/backup_merge.sql \
	sql/backup_import.sql \
	sql/backup_other.sql \
	sql/backup_sync.sql \
	sql/backup_alert.sql \
	sql/erasure_horizon.sql \
	sql/purge.sql \
	sql/replay.sql \
	sql/notice_policy.sql \
	sql/contact.sql \
	sql/notice_text.sql \
	sql/notice.sql \
	sql/notice_feed.sql \
	sql/mail_message.sql \
	sql/mail.sql \
	sql/mail_outcome.sql \
	sql/mail_command.sql \
	sql/mail_alert.sql \
	sql/schedule_cron.sql \
	sql/schedule_work.sql \
	sql/schedule_job.sql \
	sql/event_alert.sql \
	sql/schedule_alert.sql \
	sql/work.sql \
	sql/adopt_plan.sql \
	sql/adopt_schema.sql \
	sql/adopt_column.sql \
	sql/adopt_column_step.sql \
	sql/adopt_undo.sql \
	sql/each_tenant.sql \
	sql/import.sql \
	sql/usage.sql \
	sql/export.sql \
	sql/disclosure.sql \
	sql/export_plan.sql \
	sql/export_policies.sql \
	sql/event.sql \
	sql/daily_usage.sql \
	sql/event_seal.sql \
	sql/event_month.sql \
	sql/event_retention.sql \
	sql/event_verify.sql \
	sql/audit.sql \
	sql/anomaly.sql \
	sql/privileged.sql \
	sql/environment.sql \
	sql/check_base.sql \
	sql/check_bypass.sql \
	sql/check_bypass_read.sql \
	sql/check_governed.sql \
	sql/check_leak.sql \
	sql/check_widen.sql \
	sql/check_token.sql \
	sql/check_key.sql \
	sql/check_performance.sql \
	sql/check_copy.sql \
	sql/check_server.sql \
	sql/check_environment.sql \
	sql/check.sql \
	sql/check_text_ja.sql \
	sql/white_paper_text.sql \
	sql/page_text.sql \
	sql/white_paper_base.sql \
	sql/attestation.sql \
	sql/clause_outside.sql \
	sql/clause_access.sql \
	sql/clause_data.sql \
	sql/clause_notice.sql \
	sql/white_paper.sql \
	sql/metrics.sql \
	sql/page_style.sql \
	sql/page_piece.sql \
	sql/page_days.sql \
	sql/page.sql \
	sql/attack_attempt.sql \
	sql/attack.sql \
	sql/scrub.sql \
	sql/privileges.sql

EXTENSION = leyser
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" leyser.control)
LEYSER_SCRIPT = leyser--$(EXTVERSION).sql
DATA_built = $(LEYSER_SCRIPT)

PG_CPPFLAGS = -Isrc
# A function called through SQL takes fcinfo, a hook its whole list: needed or not.
PG_CFLAGS = -Wall -Wextra -Werror -Wno-unused-parameter
SHLIB_LINK += -lcrypto

REGRESS = $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
REGRESS_OPTS = --inputdir=test --use-existing
REGRESS_PREP = $(if $(REGRESS)$(ISOLATION),regress_database)
ISOLATION = $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --outputdir=. --use-existing
TAP_TESTS = $(if $(wildcard test/t/*.pl),1)
PROVE_TESTS = test/t/*.pl

EXTRA_CLEAN = leyser--*.sql results output_iso tmp_check log \
	regression.diffs regression.out

# No bitcode: the getters read their backend's static state, which code that
# the JIT inlined from bitcode would not share.
override with_llvm = no

PG_CONFIG ?= pg_config
export PG_CONFIG

# These install what they need, PostgreSQL's headers included, so they must work
# before there is any PGXS to include (which has a "check" of its own, too).
OWN_GOALS = demo check check-long check-versions bench format lint

ifneq ($(filter $(OWN_GOALS),$(MAKECMDGOALS)),)

demo:
	test/demo/run

check:
	test/run

check-long:
	test/run-long

check-versions:
	test/versions

bench:
	test/bench/run

format:
	clang-format -i src/*.[ch]

lint:
	clang-format --dry-run -Werror src/*.[ch]

.PHONY: $(OWN_GOALS)

else

PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifeq ($(wildcard $(PGXS)),)
$(error $(PG_CONFIG) finds no PGXS: install postgresql-server-dev-15 or set PG_CONFIG)
endif
include $(PGXS)

PROVE_FLAGS += -I test/perl

$(OBJS): $(wildcard src/*.h)

$(LEYSER_SCRIPT): $(SQL_PARTS) leyser.control
	sed 's/@VERSION@/$(EXTVERSION)/g' $(SQL_PARTS) > $@

# What the tests find: leyser and a keyring, in the databases that PGXS names.
regress_database:
	$(if $(REGRESS),test/database $(CONTRIB_TESTDB))
	$(if $(ISOLATION),test/database $(ISOLATION_TESTDB))

.PHONY: regress_database

endif
