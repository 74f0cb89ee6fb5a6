#include "store/witness.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <tuple>

#include "store/crc32c.h"
#include "store/little_endian.h"

namespace postbag {
namespace {

constexpr std::uint64_t magic = 0x31'74'69'57'67'61'42'50;  // "PBagWit1"
constexpr std::size_t slot_bytes = 128;
constexpr std::size_t slots = 32;
constexpr std::size_t numbers = 10;  // in a slot, 8 bytes each, the last a checksum of the others
using Slot = std::array<char, slot_bytes>;

void put(Slot& slot, std::size_t index, std::uint64_t value) {
  put_little_endian(slot.data() + index * 8, value);
}

std::uint64_t get(std::string_view slot, std::size_t index) {
  return little_endian_at(slot.data() + index * 8);
}

std::uint64_t checksum(std::string_view slot) {
  return crc32c(0, slot.substr(0, (numbers - 1) * 8));
}

Slot encode(const WitnessRecord& record) {
  Slot slot{};
  std::size_t index = 0;
  for (const std::uint64_t value :
       {magic, record.epoch, record.sequence, record.synced, record.hooks, record.first,
        record.last, record.reserved_below,
        std::uint64_t{record.store_tag} | std::uint64_t{record.empty} << 16}) {
    put(slot, index++, value);
  }
  put(slot, index, checksum({slot.data(), slot.size()}));
  return slot;
}

std::optional<WitnessRecord> decode(std::string_view slot) {
  if (get(slot, 0) != magic || get(slot, numbers - 1) != checksum(slot)) return std::nullopt;
  WitnessRecord record;
  record.epoch = get(slot, 1);
  record.sequence = get(slot, 2);
  record.synced = get(slot, 3);
  record.hooks = get(slot, 4);
  record.first = get(slot, 5);
  record.last = get(slot, 6);
  record.reserved_below = get(slot, 7);
  record.store_tag = static_cast<std::uint16_t>(get(slot, 8));
  record.empty = (get(slot, 8) >> 16 & 1) != 0;
  return record;
}

std::string read_all(int file) {
  std::string content(slots * slot_bytes, '\0');
  std::size_t at = 0;
  while (at < content.size()) {
    const ssize_t got =
        pread(file, content.data() + at, content.size() - at, static_cast<off_t>(at));
    if (got <= 0) break;
    at += static_cast<std::size_t>(got);
  }
  return content;
}

}  // namespace

std::uint64_t WitnessReading::synced() const {
  std::uint64_t synced = 0;
  for (const WitnessRecord& record : records) synced = std::max(synced, record.synced);
  return synced;
}

WitnessReading read_witness(const std::string& path) {
  WitnessReading reading;
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return reading;
  const std::string content = read_all(file);
  close(file);
  for (std::size_t slot = 0; slot < slots; ++slot) {
    const auto record = decode(std::string_view(content).substr(slot * slot_bytes, slot_bytes));
    if (record) reading.records.push_back(*record);
  }
  // A later record of the same commit says more of what is synced.
  std::sort(reading.records.begin(), reading.records.end(), [](const auto& a, const auto& b) {
    return std::tie(a.sequence, a.synced, a.empty) < std::tie(b.sequence, b.synced, b.empty);
  });
  if (!reading.records.empty()) {
    std::erase_if(reading.records, [epoch = reading.records.back().epoch](const auto& record) {
      return record.epoch != epoch;
    });
  }
  return reading;
}

std::optional<WitnessedLoss> witnessed_loss(const WitnessReading& reading, std::uint64_t sequence,
                                            std::uint64_t hooks, ChunkNumber last_number) {
  const WitnessRecord* newest = reading.newest();
  if (newest == nullptr || newest->sequence <= sequence) return std::nullopt;
  WitnessedLoss loss;
  loss.commits = newest->sequence - sequence;
  loss.hooks = newest->hooks > hooks ? newest->hooks - hooks : 0;
  loss.within_window = reading.synced() <= sequence;
  std::uint64_t known = 0, previous = sequence;
  for (const WitnessRecord& record : reading.records) {
    if (record.sequence <= previous) continue;
    previous = record.sequence;
    ++known;
    if (record.last == 0) continue;
    loss.first = loss.first == 0 ? record.first : std::min(loss.first, record.first);
    loss.last = std::max(loss.last, record.last);
  }
  // The ring does not reach back to the first that is missing. Numbers ascend but for what the
  // shards hold apart, so it is about here.
  if (known < loss.commits && loss.hooks > 0 && (loss.first == 0 || last_number < loss.first)) {
    loss.first = last_number + 1;
    loss.last = std::max(loss.last, loss.first);
  }
  return loss;
}

WitnessWriter::~WitnessWriter() {
  if (file_ >= 0) close(file_);
}

bool WitnessWriter::open(const std::string& path, bool anew) {
  if (anew) unlink(path.c_str());
  file_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file_ < 0) return false;
  const std::string content = read_all(file_);
  std::uint64_t newest = 0;
  for (std::size_t slot = 0; slot < slots; ++slot) {
    const auto record = decode(std::string_view(content).substr(slot * slot_bytes, slot_bytes));
    if (!record || record->sequence < newest) continue;
    newest = record->sequence;
    next_slot_ = slot + 1;
  }
  // All of it at once: a file that need not grow can be written on a full disk.
  const bool written =
      pwrite(file_, content.data(), content.size(), 0) == static_cast<ssize_t>(content.size());
  if (!written) {
    close(file_);
    file_ = -1;
  }
  return written;
}

void WitnessWriter::write(const WitnessRecord& record) {
  if (file_ < 0) return;
  const Slot slot = encode(record);
  const auto at = static_cast<off_t>(next_slot_++ % slots * slot_bytes);
  [[maybe_unused]] const ssize_t written = pwrite(file_, slot.data(), slot.size(), at);
}

void WitnessWriter::sync() {
  if (file_ < 0) return;
  last_sync_ = std::chrono::steady_clock::now();
  fdatasync(file_);
}

void WitnessWriter::sync_if_due() {
  if (std::chrono::steady_clock::now() - last_sync_.load() >= std::chrono::seconds(1)) sync();
}

}  // namespace postbag
