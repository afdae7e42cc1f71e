/* Launches recorded as a graph, to be launched together. */

#include "graphs.h"

#include <stdlib.h>

static Graph *recording;

bool captured(const Node &node) {
  if (!recording) return false;
  if (recording->count == recording->held) {
    recording->held = recording->held ? 2 * recording->held : 16;
    recording->nodes = (Node *)realloc(recording->nodes, recording->held * sizeof(Node));
  }
  recording->nodes[recording->count++] = node;
  return true;
}

void begin_capture(void) { recording = (Graph *)calloc(1, sizeof(Graph)); }
Graph *end_capture(void) {
  Graph *made = recording;
  recording = nullptr;
  return made;
}
CUresult launch_graph(const Graph *graph) {
  for (size_t i = 0; i < graph->count; ++i)
    if (CUresult failed = launch_now(graph->nodes[i])) return failed;
  return sticky();
}
void destroy_graph(Graph *graph) {
  if (!graph) return;
  free(graph->nodes);
  free(graph);
}
