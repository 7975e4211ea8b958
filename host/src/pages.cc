// plv8.huge_pages(view): ask the system to back the memory under a typed array by huge pages, where it offers them on
// request. Meant for memory that has not been touched yet: then each first touch makes 2 MiB available at once.
#include "host.h"

#include <sys/mman.h>
#include <unistd.h>

namespace host {
namespace {

using Info = const v8::FunctionCallbackInfo<v8::Value>&;

// true when the request was taken; the system is free to use small pages all the same.
void huge_pages(Info info) {
  callback_body(info, [&] {
    if (info.Length() < 1 || !info[0]->IsArrayBufferView()) throw_js("huge_pages needs a typed array");
    v8::Local<v8::ArrayBufferView> view = info[0].As<v8::ArrayBufferView>();
    uintptr_t from = reinterpret_cast<uintptr_t>(view->Buffer()->GetBackingStore()->Data()) + view->ByteOffset();
    uintptr_t to = from + view->ByteLength();
    uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    from = (from + page - 1) & ~(page - 1);
    to &= ~(page - 1);
    bool taken = false;
#ifdef MADV_HUGEPAGE
    taken = to > from && madvise(reinterpret_cast<void*>(from), to - from, MADV_HUGEPAGE) == 0;
#endif
    info.GetReturnValue().Set(taken);
  });
}

}  // namespace

void install_pages(v8::Local<v8::Context> context, v8::Local<v8::Object> plv8) {
  set_member(context, plv8, "huge_pages", huge_pages, kPlv8Member);
}

}  // namespace host
