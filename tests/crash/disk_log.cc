#include "tests/crash/disk_log.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <stdexcept>

#include "tests/crash/hook_names.h"

namespace postbag::test {

std::string read_whole_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file && file.peek() != std::ifstream::traits_type::eof()) text << file.rdbuf();
  return text.str();
}

void write_whole_file(const std::string& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

namespace {

std::string name_of(const std::string& path) {
  return std::filesystem::path(path).filename().string();
}

void put(std::string& file, std::uint64_t offset, std::string_view data) {
  if (data.empty()) return;
  file.resize(std::max<std::size_t>(file.size(), offset + data.size()));
  data.copy(file.data() + offset, data.size());
}

}  // namespace

DiskLog::DiskLog(std::string side_file) : side_file_(std::move(side_file)) {}

void DiskLog::look_at_side_file() {
  std::string version = read_whole_file(side_file_);
  if (has_side_ && version == side_now_) return;
  has_side_ = true;
  side_now_ = version;
  sides_.push_back(ops_.size());
  Op op;
  op.kind = Kind::side;
  op.data = std::move(version);
  ops_.push_back(std::move(op));
}

DiskLog::Op& DiskLog::add(Kind kind, std::uint32_t file) {
  look_at_side_file();
  Op& op = ops_.emplace_back();
  op.kind = kind;
  op.file = file;
  return op;
}

std::uint32_t DiskLog::file_of(const std::string& path) const {
  return names_.at(name_of(path));
}

void DiskLog::opened(const std::string& path, bool created) {
  const std::string name = name_of(path);
  if (!created && names_.contains(name)) return;
  const std::uint32_t file = files_++;
  names_[name] = file;
  folder_synced_with_.push_back(false);
  add(Kind::create, file).data = name;
  if (created) return;
  // There before we looked: as it is, and durable.
  add(Kind::write, file).data = read_whole_file(path);
  Op& op = add(Kind::sync, file);
  op.at = 1;
  op.began = ops_.size();
}

void DiskLog::adopt(const std::string& folder) {
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path() != side_file_) opened(entry.path(), false);
  }
}

void DiskLog::wrote(const std::string& path, std::uint64_t offset, std::string_view data) {
  Op& op = add(Kind::write, file_of(path));
  op.at = offset;
  op.data = data;
  Writes& writes = writes_[name_of(path)];
  writes.moments.push_back(ops_.size());
  writes.last_end = offset + data.size();
}

const std::vector<std::size_t>& DiskLog::moments_of_writes(const std::string& path) const {
  static const std::vector<std::size_t> none;
  const auto found = writes_.find(name_of(path));
  return found == writes_.end() ? none : found->second.moments;
}

std::uint64_t DiskLog::end_of_last_write(const std::string& path) const {
  const auto found = writes_.find(name_of(path));
  return found == writes_.end() ? 0 : found->second.last_end;
}

void DiskLog::truncated(const std::string& path, std::uint64_t size) {
  add(Kind::truncate, file_of(path)).at = size;
}

void DiskLog::synced(const std::string& path, std::size_t began) {
  const std::uint32_t file = file_of(path);
  Op& op = add(Kind::sync, file);
  op.at = folder_synced_with_[file] ? 0 : 1;
  op.began = began;
  folder_synced_with_[file] = true;
}

void DiskLog::removed(const std::string& path, bool folder_synced) {
  const std::string name = name_of(path);
  const auto found = names_.find(name);
  if (found == names_.end()) return;
  Op& op = add(Kind::remove, found->second);
  op.at = folder_synced ? 1 : 0;
  op.data = name;
  names_.erase(name);
}

// How a power loss treats what was not synced.
struct DiskLog::Loss {
  // A file of its own is lost whole where the system had begun to write the others only.
  enum Way { drops_all, keeps_all, keeps_first, drops_file, drops_calls, drops_sectors, ways };
  static constexpr std::array<const char*, ways> names{
      "all lost", "all there", "the first there", "one file lost", "calls lost", "sectors lost"};

  explicit Loss(std::uint64_t seed) : random(seed) {
    way = static_cast<Way>(random() % ways);
    sector = random() % 2 == 0 ? 512 : 4096;
    keeps_percent = std::array<unsigned, 4>{5, 50, 90, 98}[random() % 4];
    torn = random() % 2 == 0;
    garbage = random() % 4 == 0;
  }
  bool keeps() { return random() % 100 < keeps_percent; }
  std::string describe() const {
    std::string text = names[way];
    if (way < drops_calls) return text;
    text += ", " + std::to_string(keeps_percent) + " % there";
    if (way == drops_sectors) text += ", sectors of " + std::to_string(sector);
    return text + (torn ? ", torn" : "") + (garbage ? ", garbage" : "");
  }

  std::mt19937_64 random;
  Way way = drops_all;
  std::size_t sector = 512;
  unsigned keeps_percent = 50;
  bool torn = false, garbage = false;
};

// The files while the log is gone through.
class DiskLog::Disk {
 public:
  Disk(const std::vector<Op>& ops, std::uint32_t files) : ops_(ops), files_(files) {}

  void take(const Op& op) {
    switch (op.kind) {
      case Kind::write:
      case Kind::truncate:
        waiting_.push_back(&op);
        break;
      case Kind::create:
      case Kind::remove:
        names_waiting_.push_back(&op);
        if (op.kind == Kind::remove && op.at == 1) sync_names();
        break;
      case Kind::sync:
        if (op.at == 1) sync_names();
        sync_file(op);
        break;
      case Kind::side:
        break;
    }
  }

  void lose(Loss& loss) {
    // Names change in order, as in the journal of a file system.
    std::size_t names = names_waiting_.size();
    if (loss.way == Loss::drops_all) names = 0;
    if (loss.way != Loss::keeps_all && names > 0) names = loss.random() % (names + 1);
    names_waiting_.resize(names);
    sync_names();
    const std::uint32_t lost =
        waiting_.empty() ? 0 : waiting_[loss.random() % waiting_.size()]->file;
    std::size_t first = waiting_.size();
    if (loss.way == Loss::keeps_first && first > 0) first = loss.random() % (first + 1);
    for (std::size_t i = 0; i < waiting_.size(); ++i) {
      switch (loss.way) {
        case Loss::keeps_all:
          apply(*waiting_[i]);
          break;
        case Loss::keeps_first:
          if (i < first) apply(*waiting_[i]);
          if (i == first) apply_torn(*waiting_[i], loss);
          break;
        case Loss::drops_file:
          if (waiting_[i]->file != lost) apply(*waiting_[i]);
          break;
        case Loss::drops_calls:
          if (loss.keeps()) apply(*waiting_[i]);
          break;
        case Loss::drops_sectors:
          apply_sectors(*waiting_[i], loss);
          break;
        default:
          break;
      }
    }
  }

  void write_to(const std::string& folder) const {
    for (const auto& [name, file] : names_) write_whole_file(folder + "/" + name, files_[file]);
  }

 private:
  void apply(const Op& op) {
    if (op.kind == Kind::truncate) {
      files_[op.file].resize(op.at);
    } else {
      put(files_[op.file], op.at, op.data);
    }
  }

  void apply_torn(const Op& op, Loss& loss) {
    if (op.kind == Kind::truncate) return;
    put(files_[op.file], op.at,
        std::string_view(op.data).substr(0, loss.random() % (op.data.size() + 1)));
  }

  void apply_sectors(const Op& op, Loss& loss) {
    if (op.kind == Kind::truncate) {
      if (loss.keeps()) apply(op);
      return;
    }
    const std::string_view data = op.data;
    for (std::size_t at = 0; at < data.size();) {
      const std::size_t size = std::min(data.size() - at, loss.sector - (op.at + at) % loss.sector);
      if (loss.keeps()) {
        put(files_[op.file], op.at + at, data.substr(at, size));
      } else if (loss.torn) {
        put(files_[op.file], op.at + at, data.substr(at, loss.random() % size));
      } else if (loss.garbage) {
        std::string bytes(size, '\0');
        for (char& byte : bytes) byte = static_cast<char>(loss.random());
        put(files_[op.file], op.at + at, bytes);
      }
      at += size;
    }
  }

  void sync_names() {
    for (const Op* op : names_waiting_) {
      if (op->kind == Kind::create) {
        names_[op->data] = op->file;
      } else {
        names_.erase(op->data);
      }
    }
    names_waiting_.clear();
  }

  // What was written while the sync was under way may wait for the next.
  void sync_file(const Op& sync) {
    const auto is_covered = [&](const Op* op) {
      return op->file == sync.file && op < ops_.data() + sync.began;
    };
    for (const Op* op : waiting_) {
      if (is_covered(op)) apply(*op);
    }
    std::erase_if(waiting_, is_covered);
  }

  const std::vector<Op>& ops_;
  std::vector<std::string> files_;
  std::map<std::string, std::uint32_t> names_;
  std::vector<const Op*> waiting_, names_waiting_;
};

const std::string& DiskLog::side_version(std::size_t moment, std::uint64_t versions_back) const {
  static const std::string none;
  const auto end = std::lower_bound(sides_.begin(), sides_.end(), moment);
  const auto versions = static_cast<std::uint64_t>(end - sides_.begin());
  if (versions <= versions_back) return none;
  return ops_[sides_[versions - 1 - versions_back]].data;
}

// Mostly the newest version; else an older one, or one that was being written over another.
void DiskLog::write_side_file(std::size_t moment, std::mt19937_64& random,
                              const std::string& folder) const {
  const std::uint64_t dice = random() % 10;
  std::string bytes = side_version(moment, dice < 6 ? 0 : random() % 4);
  if (dice == 9) {
    const std::string& newest = side_version(moment, 0);
    put(bytes, 0, std::string_view(newest).substr(0, random() % (newest.size() + 1)));
  }
  if (!bytes.empty()) write_whole_file(folder + "/" + name_of(side_file_), bytes);
}

std::string DiskLog::make_image(std::size_t moment, std::uint64_t seed,
                                const std::string& folder) const {
  Loss loss(mix64(seed));
  Disk disk(ops_, files_);
  for (std::size_t i = 0; i < moment; ++i) disk.take(ops_[i]);
  disk.lose(loss);
  disk.write_to(folder);
  write_side_file(moment, loss.random, folder);
  return loss.describe();
}

void DiskLog::make_lying_image(std::size_t moment, std::size_t side_moment,
                               const std::string& folder) const {
  Loss loss(0);
  loss.way = Loss::keeps_all;
  Disk disk(ops_, files_);
  for (std::size_t i = 0; i < moment; ++i) disk.take(ops_[i]);
  disk.lose(loss);
  disk.write_to(folder);
  const std::string& side = side_version(side_moment, 0);
  if (!side.empty()) write_whole_file(folder + "/" + name_of(side_file_), side);
}

}  // namespace postbag::test
