// The board on which a scout writes what it found, and each worker that it came to its end.
#include "worker.h"

Board* make_board(dsm_handle* handle) {
  dsm_segment* segment = dsm_create(sizeof(Board), 0);
  dsm_pin_mapping(segment);
  *handle = dsm_segment_handle(segment);
  Board* board = dsm_segment_address(segment);
  memset(board, 0, sizeof(Board));
  return board;
}

Board* attach_board(dsm_handle handle) {
  dsm_segment* segment = dsm_attach(handle);
  if (segment == NULL) return NULL;
  dsm_pin_mapping(segment);
  return dsm_segment_address(segment);
}
