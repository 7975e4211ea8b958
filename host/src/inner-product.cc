// hartonomous_v8_inner_product: an SQL function over vectors that are bytea, floats with the least significant byte first. A search
// without pgvector orders by it.
#include "host.h"
#include "kernels/kernels.h"

namespace host {

Datum inner_product(PG_FUNCTION_ARGS) {
  bytea* a = PG_GETARG_BYTEA_PP(0);
  bytea* b = PG_GETARG_BYTEA_PP(1);
  const size_t bytes = VARSIZE_ANY_EXHDR(a), others = VARSIZE_ANY_EXHDR(b);
  if (bytes != others) {
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("different vectors: %zu and %zu bytes", bytes, others)));
  }
  if (bytes % sizeof(float) != 0) {
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("vectors of %zu bytes are not made of floats", bytes)));
  }
  const double product = kernels::best_kernels().inner_product(VARDATA_ANY(a), VARDATA_ANY(b), bytes / sizeof(float));
  PG_FREE_IF_COPY(a, 0);
  PG_FREE_IF_COPY(b, 1);
  PG_RETURN_FLOAT8(product);
}

}  // namespace host
