/*
 * purge_order.c
 *		In which order tables are emptied, and which of them only together.
 *
 * Tables are the nodes of a graph whose edges say "before": the referencing
 * table before the referenced one.  Tables that refer to each other in a circle
 * are a strongly connected component of it.  Tarjan's algorithm (Depth-first
 * search and linear graph algorithms, 1972) finds the components, each after all
 * that it can reach; followed from the later node to the earlier one, that is
 * the order of deletion.  Time and memory grow with nodes and edges alone.
 *
 * Copyright (c) 2026, the leyser authors
 */
#include "leyser.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/shmem.h"
#include "utils/array.h"

PG_FUNCTION_INFO_V1(leyser_purge_order);

typedef struct OrderNode
{
	int64 id;
	int position; /* in the caller's array */
	int first_edge;
	int edges;
	int number;    /* in the order of discovery; 0: not seen yet */
	int lowest;    /* number that can be reached */
	int component; /* 0: none yet, so it may be on the stack */
} OrderNode;

typedef struct OrderGraph
{
	OrderNode *nodes; /* by id */
	int *visits;      /* the caller's order, as indexes of nodes */
	int *targets;     /* of all edges, by node */
	int count;
	int *stack;
	int stacked;
	int discovered;
	int components;
} OrderGraph;

static int64 *
order_array(Datum value, int *count)
{
	Datum *elements;
	bool *nulls;
	int64 *ids;

	deconstruct_array(DatumGetArrayTypeP(value), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &elements, &nulls, count);
	ids = palloc(add_size(mul_size(*count, sizeof(int64)), 1));
	for (int i = 0; i < *count; i++)
	{
		if (nulls[i])
			elog(ERROR, "a node is null");
		ids[i] = DatumGetInt64(elements[i]);
	}
	return ids;
}

static int
order_compare(const void *left, const void *right)
{
	int64 a = ((const OrderNode *) left)->id;
	int64 b = ((const OrderNode *) right)->id;

	return (a > b) - (a < b);
}

static int
order_find(const OrderGraph *graph, int64 id)
{
	OrderNode key = {.id = id};
	OrderNode *found =
		bsearch(&key, graph->nodes, graph->count, sizeof(OrderNode), order_compare);

	if (!found)
		elog(ERROR, "an edge leads to no node");
	return found - graph->nodes;
}

static void
order_add_nodes(OrderGraph *graph, const int64 *ids)
{
	graph->nodes = palloc0(add_size(mul_size(graph->count, sizeof(OrderNode)), 1));
	graph->visits = palloc(add_size(mul_size(graph->count, sizeof(int)), 1));
	graph->stack = palloc(add_size(mul_size(graph->count, sizeof(int)), 1));
	for (int i = 0; i < graph->count; i++)
	{
		graph->nodes[i].id = ids[i];
		graph->nodes[i].position = i;
	}
	qsort(graph->nodes, graph->count, sizeof(OrderNode), order_compare);
	for (int i = 0; i < graph->count; i++)
		graph->visits[graph->nodes[i].position] = i;
}

/* Edges lead from the later node to the earlier one. */
static void
order_add_edges(OrderGraph *graph, const int64 *earlier, const int64 *later, int count)
{
	int *from = palloc(add_size(mul_size(count, sizeof(int)), 1));
	int next = 0;

	graph->targets = palloc(add_size(mul_size(count, sizeof(int)), 1));
	for (int i = 0; i < count; i++)
	{
		from[i] = order_find(graph, later[i]);
		graph->nodes[from[i]].edges++;
	}
	for (int i = 0; i < graph->count; i++)
	{
		graph->nodes[i].first_edge = next;
		next += graph->nodes[i].edges;
		graph->nodes[i].edges = 0;
	}
	for (int i = 0; i < count; i++)
	{
		OrderNode *node = &graph->nodes[from[i]];

		graph->targets[node->first_edge + node->edges++] = order_find(graph, earlier[i]);
	}
}

static void
order_visit(OrderGraph *graph, int index)
{
	OrderNode *node = &graph->nodes[index];
	int member;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	node->number = node->lowest = ++graph->discovered;
	graph->stack[graph->stacked++] = index;
	for (int i = 0; i < node->edges; i++)
	{
		OrderNode *target = &graph->nodes[graph->targets[node->first_edge + i]];

		if (target->number == 0)
		{
			order_visit(graph, target - graph->nodes);
			node->lowest = Min(node->lowest, target->lowest);
		}
		else if (target->component == 0)
			node->lowest = Min(node->lowest, target->number);
	}
	if (node->lowest != node->number)
		return;
	graph->components++;
	do
	{
		member = graph->stack[--graph->stacked];
		graph->nodes[member].component = graph->components;
	} while (member != index);
}

/*
 * purge_order(nodes bigint[], earlier bigint[], later bigint[]) → integer[]: for
 * each node the number of its turn; nodes of one turn depend on each other in a
 * circle.  earlier[i] comes before later[i].
 */
Datum
leyser_purge_order(PG_FUNCTION_ARGS)
{
	OrderGraph graph = {0};
	int earlier_count;
	int later_count;
	int64 *ids = order_array(PG_GETARG_DATUM(0), &graph.count);
	int64 *earlier = order_array(PG_GETARG_DATUM(1), &earlier_count);
	int64 *later = order_array(PG_GETARG_DATUM(2), &later_count);
	Datum *turns = palloc(add_size(mul_size(graph.count, sizeof(Datum)), 1));

	if (earlier_count != later_count)
		elog(ERROR, "edges have two ends");
	order_add_nodes(&graph, ids);
	order_add_edges(&graph, earlier, later, later_count);
	for (int i = 0; i < graph.count; i++)
		if (graph.nodes[graph.visits[i]].number == 0)
			order_visit(&graph, graph.visits[i]);
	for (int i = 0; i < graph.count; i++)
		turns[graph.nodes[i].position] = Int32GetDatum(graph.nodes[i].component);
	PG_RETURN_ARRAYTYPE_P(
		construct_array(turns, graph.count, INT4OID, sizeof(int32), true, TYPALIGN_INT));
}
