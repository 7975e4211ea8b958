// Copy a shared library so that it is loaded in a fraction of the time: bind-library FROM TO
//
// Debian's libnode exports all of V8, and asks the loader for the address of everything that it exports and uses itself, by
// name: 60,000 names, each looked for in PostgreSQL and all its libraries first. That was three quarters of the time that V8
// took to start in a backend. In the copy these places say what lies there, as a library has it that was linked with
// -Bsymbolic: the same functions at the same addresses, and not one byte of code or data is another.
//
// Functions are bound, and nothing else: variables, which C++ may define in several libraries and which have to be one, functions
// that are chosen at run time, and whatever other libraries have are looked up as before. A file that is not understood is
// copied as it is.
#include <elf.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace {

// Types of relocations that put the address of a symbol, and of the one that adds the address at which the library lies.
struct Machine {
  Elf64_Half name;
  uint32_t address, global_data, jump_slot, relative;
};
constexpr Machine kMachines[] = {
    {EM_X86_64, R_X86_64_64, R_X86_64_GLOB_DAT, R_X86_64_JUMP_SLOT, R_X86_64_RELATIVE},
    {EM_AARCH64, R_AARCH64_ABS64, R_AARCH64_GLOB_DAT, R_AARCH64_JUMP_SLOT, R_AARCH64_RELATIVE},
};

class Library {
 public:
  explicit Library(std::string& bytes) : bytes_(bytes) {}

  // What is in the way, or null.
  const char* bind() {
    if (const char* reason = read()) return reason;
    std::vector<Elf64_Rela> relative, other, calls;
    for (size_t i = 0; i < count_ + n_calls_; i++) {
      Elf64_Rela entry = table_[i];
      if (!bind(&entry)) return "a relocation names no symbol of the library";
      if (ELF64_R_TYPE(entry.r_info) == machine_->relative) relative.push_back(entry);
      else (i < count_ ? other : calls).push_back(entry);
    }
    // The loader goes through those at the beginning without looking at what they are; in the order of pages.
    auto earlier = [](const Elf64_Rela& a, const Elf64_Rela& b) { return a.r_offset < b.r_offset; };
    std::sort(relative.begin(), relative.end(), earlier);
    Elf64_Rela* next = table_;
    for (const auto* part : {&relative, &other, &calls}) next = std::copy(part->begin(), part->end(), next);
    size_t first_bytes = (relative.size() + other.size()) * sizeof(Elf64_Rela);
    size_t call_bytes = calls.size() * sizeof(Elf64_Rela);
    resize_sections(first_bytes, call_bytes);
    dynamic(DT_RELACOUNT)->d_un.d_val = relative.size();
    dynamic(DT_RELASZ)->d_un.d_val = first_bytes;
    dynamic(DT_JMPREL)->d_un.d_ptr = dynamic(DT_RELA)->d_un.d_ptr + first_bytes;
    dynamic(DT_PLTRELSZ)->d_un.d_val = call_bytes;
    return nullptr;
  }

 private:
  const char* read() {
    header_ = at<Elf64_Ehdr>(0, 1);
    if (header_ == nullptr || memcmp(header_->e_ident, ELFMAG, SELFMAG) != 0) return "it is no ELF file";
    if (header_->e_ident[EI_CLASS] != ELFCLASS64 || header_->e_ident[EI_DATA] != ELFDATA2LSB || header_->e_type != ET_DYN) {
      return "it is no library of 64 bits, least significant byte first";
    }
    for (const Machine& machine : kMachines) {
      if (machine.name == header_->e_machine) machine_ = &machine;
    }
    if (machine_ == nullptr) return "it is of another machine";
    programs_ = at<Elf64_Phdr>(header_->e_phoff, header_->e_phnum);
    if (programs_ == nullptr) return "it is cut short";
    for (int i = 0; i < header_->e_phnum; i++) {
      if (programs_[i].p_type != PT_DYNAMIC) continue;
      n_dynamic_ = programs_[i].p_filesz / sizeof(Elf64_Dyn);
      dynamic_ = at<Elf64_Dyn>(programs_[i].p_offset, n_dynamic_);
    }
    if (dynamic_ == nullptr) return "it is not dynamic";
    for (Elf64_Sxword needed : {DT_SYMTAB, DT_STRTAB, DT_RELA, DT_RELASZ, DT_RELACOUNT, DT_JMPREL, DT_PLTRELSZ, DT_PLTREL}) {
      if (dynamic(needed) == nullptr) return "it has no table of relocations as is expected";
    }
    if (dynamic(DT_PLTREL)->d_un.d_val != DT_RELA || dynamic(DT_TEXTREL) != nullptr) return "its relocations are of another kind";
    bool now = (dynamic(DT_FLAGS) != nullptr && (dynamic(DT_FLAGS)->d_un.d_val & DF_BIND_NOW)) ||
               (dynamic(DT_FLAGS_1) != nullptr && (dynamic(DT_FLAGS_1)->d_un.d_val & DF_1_NOW));
    if (!now) return "calls are bound when they are made first";
    count_ = dynamic(DT_RELASZ)->d_un.d_val / sizeof(Elf64_Rela);
    n_calls_ = dynamic(DT_PLTRELSZ)->d_un.d_val / sizeof(Elf64_Rela);
    if (dynamic(DT_RELA)->d_un.d_ptr + count_ * sizeof(Elf64_Rela) != dynamic(DT_JMPREL)->d_un.d_ptr) {
      return "its two tables of relocations are apart";
    }
    table_ = mapped<Elf64_Rela>(dynamic(DT_RELA)->d_un.d_ptr, count_ + n_calls_);
    // The table of names follows the one of symbols, which has no size of its own.
    Elf64_Addr symbols = dynamic(DT_SYMTAB)->d_un.d_ptr, names = dynamic(DT_STRTAB)->d_un.d_ptr;
    if (names < symbols) return "its table of symbols is not where it is expected";
    n_symbols_ = (names - symbols) / sizeof(Elf64_Sym);
    symbols_ = mapped<Elf64_Sym>(symbols, n_symbols_);
    return table_ == nullptr || symbols_ == nullptr ? "its tables lie outside of it" : nullptr;
  }

  // False where the entry is not sound.
  bool bind(Elf64_Rela* entry) const {
    uint32_t type = ELF64_R_TYPE(entry->r_info);
    if (type != machine_->address && type != machine_->global_data && type != machine_->jump_slot) return true;
    if (ELF64_R_SYM(entry->r_info) >= n_symbols_) return false;
    const Elf64_Sym& symbol = symbols_[ELF64_R_SYM(entry->r_info)];
    if (symbol.st_shndx == SHN_UNDEF || symbol.st_shndx >= SHN_LORESERVE) return true;
    bool once = ELF64_ST_BIND(symbol.st_info) == STB_GLOBAL, weak = ELF64_ST_BIND(symbol.st_info) == STB_WEAK;
    if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC || !(once || weak)) return true;
    entry->r_addend = symbol.st_value + (type == machine_->address ? entry->r_addend : 0);
    entry->r_info = ELF64_R_INFO(0, machine_->relative);
    return true;
  }

  // For programs that look at sections, which the loader does not.
  void resize_sections(size_t first_bytes, size_t call_bytes) {
    Elf64_Shdr* sections = at<Elf64_Shdr>(header_->e_shoff, header_->e_shnum);
    if (sections == nullptr) return;
    Elf64_Addr first = dynamic(DT_RELA)->d_un.d_ptr, calls = dynamic(DT_JMPREL)->d_un.d_ptr;
    for (int i = 0; i < header_->e_shnum; i++) {
      Elf64_Shdr& section = sections[i];
      if (section.sh_type != SHT_RELA) continue;
      if (section.sh_addr == calls) {
        section.sh_offset += first + first_bytes - calls;
        section.sh_addr = first + first_bytes;
        section.sh_size = call_bytes;
      } else if (section.sh_addr == first) {
        section.sh_size = first_bytes;
      }
    }
  }

  Elf64_Dyn* dynamic(Elf64_Sxword tag) const {
    for (size_t i = 0; i < n_dynamic_ && dynamic_[i].d_tag != DT_NULL; i++) {
      if (dynamic_[i].d_tag == tag) return &dynamic_[i];
    }
    return nullptr;
  }

  // `count` entries at an offset of the file, or at an address once it is loaded; null where they do not lie in it.
  template <typename T>
  T* at(size_t offset, size_t count) const {
    if (offset > bytes_.size() || count > (bytes_.size() - offset) / sizeof(T) || offset % alignof(T) != 0) return nullptr;
    return reinterpret_cast<T*>(&bytes_[offset]);
  }

  template <typename T>
  T* mapped(Elf64_Addr address, size_t count) const {
    for (int i = 0; i < header_->e_phnum; i++) {
      const Elf64_Phdr& part = programs_[i];
      if (part.p_type != PT_LOAD || address < part.p_vaddr || address - part.p_vaddr > part.p_filesz) continue;
      if (count > (part.p_filesz - (address - part.p_vaddr)) / sizeof(T)) continue;
      return at<T>(part.p_offset + (address - part.p_vaddr), count);
    }
    return nullptr;
  }

  std::string& bytes_;
  const Machine* machine_ = nullptr;
  Elf64_Ehdr* header_ = nullptr;
  Elf64_Phdr* programs_ = nullptr;
  Elf64_Dyn* dynamic_ = nullptr;
  size_t n_dynamic_ = 0;
  Elf64_Rela* table_ = nullptr;  // (count_ + n_calls_) relocations: of data, and after them of calls
  size_t count_ = 0, n_calls_ = 0;
  Elf64_Sym* symbols_ = nullptr;
  size_t n_symbols_ = 0;
};

}  // namespace

int main(int n, char** arguments) {
  if (n != 3) {
    fprintf(stderr, "usage: bind-library FROM TO\n");
    return 2;
  }
  std::ifstream from(arguments[1], std::ios::binary);
  std::string original((std::istreambuf_iterator<char>(from)), std::istreambuf_iterator<char>());
  if (!from || original.empty()) {
    fprintf(stderr, "bind-library: %s cannot be read\n", arguments[1]);
    return 1;
  }
  std::string bytes = original;
  if (const char* reason = Library(bytes).bind()) {
    fprintf(stderr, "bind-library: %s is copied as it is, and loaded slowly: %s\n", arguments[1], reason);
    bytes = original;
  }
  std::ofstream to(arguments[2], std::ios::binary | std::ios::trunc);
  to << bytes;
  to.close();
  if (to) return 0;
  fprintf(stderr, "bind-library: %s cannot be written\n", arguments[2]);
  return 1;
}
