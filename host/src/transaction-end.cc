// What is done when a transaction ends, be it committed or not: lines for the server's log about work that was rolled back
// (plv8.rollback_note), and locks that a backend holds until then.
#include "segments/segments.h"

extern "C" {
#include "access/xact.h"
}

namespace host {
namespace {

using Info = const v8::FunctionCallbackInfo<v8::Value>&;

struct Note {
  double id;
  SubTransactionId made_in;
  std::string text;
};
std::vector<Note>* notes = nullptr;
double latest_id = 0;

// Neither the statement nor the context goes with it: they may hold what the note leaves out.
void log(const Note& note) {
  ereport(LOG, (errmsg_internal("%s", note.text.c_str()), errhidestmt(true), errhidecontext(true)));
}

void at_subtransaction_end(SubXactEvent event, SubTransactionId ended, SubTransactionId parent, void*) {
  if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB) return;
  std::vector<Note> kept;
  for (Note& note : *notes) {
    if (note.made_in == ended && event == SUBXACT_EVENT_ABORT_SUB) {
      log(note);
      continue;
    }
    if (note.made_in == ended) note.made_in = parent;
    kept.push_back(std::move(note));
  }
  *notes = std::move(kept);
  // A load that was cancelled in it publishes nothing; whoever waits for it need not wait for the transaction's end.
  if (event == SUBXACT_EVENT_ABORT_SUB) segments::release_elections();
}

void at_transaction_end(XactEvent event, void*) {
  switch (event) {
    case XACT_EVENT_ABORT:
    case XACT_EVENT_PARALLEL_ABORT:
    case XACT_EVENT_PREPARE:  // what becomes of it is not for this backend to see
      for (const Note& note : *notes) log(note);
      break;
    case XACT_EVENT_COMMIT:
    case XACT_EVENT_PARALLEL_COMMIT:
      break;
    default:
      return;
  }
  notes->clear();
  segments::release_elections();
}

// rollback_note(text, id): a line for the server's log should what runs now be rolled back; its id, by which a later call
// within the transaction gives it another text, or with null takes it away.
void rollback_note(Info info) {
  callback_body(info, [&] {
    require_owner("rollback_note");
    watch_transactions();
    if (info.Length() < 1 || !(info[0]->IsString() || info[0]->IsNull())) throw_js("usage: rollback_note(text, id)");
    double id = info.Length() > 1 && info[1]->IsNumber() ? info[1].As<v8::Number>()->Value() : 0;
    for (size_t i = 0; i < notes->size(); i++) {
      if ((*notes)[i].id != id) continue;
      if (info[0]->IsNull()) {
        notes->erase(notes->begin() + static_cast<std::ptrdiff_t>(i));
      } else {
        (*notes)[i].text = pg_string(info[0]);
      }
      info.GetReturnValue().Set(id);
      return;
    }
    if (info[0]->IsNull()) return;
    notes->push_back({++latest_id, GetCurrentSubTransactionId(), pg_string(info[0])});
    info.GetReturnValue().Set(latest_id);
  });
}

}  // namespace

void watch_transactions() {
  if (notes != nullptr) return;
  notes = new std::vector<Note>;
  RegisterXactCallback(at_transaction_end, nullptr);
  RegisterSubXactCallback(at_subtransaction_end, nullptr);
}

void install_rollback_note(v8::Local<v8::Context> context, v8::Local<v8::Object> plv8) {
  set_member(context, plv8, "rollback_note", rollback_note, kPlv8Member);
}

}  // namespace host
