/* Graphs of launches, which the simulated runtime offers. */

#pragma once

#include "driver.h"

struct Graph {
  Node *nodes;
  size_t count, held;
};

void begin_capture(void);
Graph *end_capture(void);
CUresult launch_graph(const Graph *graph);
void destroy_graph(Graph *graph);
