#include "file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "error.hpp"
#include "memory.hpp"

namespace ff {

File File::map(const char* path) {
    const auto refuse = [path](const std::string& reason) {
        throw Error(FF_BAD_FILE, "cannot read '" + std::string(path) + "': " + reason);
    };
    struct stat status {};
    if (::stat(path, &status) != 0) refuse(std::strerror(errno));
    // Asked before it is opened, which a pipe's writer would notice, and after, since it may have been exchanged.
    if (!S_ISREG(status.st_mode)) refuse("it is not a regular file");
    const int file = ::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) refuse(std::strerror(errno));
    const bool known = ::fstat(file, &status) == 0;
    const bool regular = known && S_ISREG(status.st_mode);
    const size_t size = regular ? static_cast<size_t>(status.st_size) : 0;
    void* data = size ? ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0) : nullptr;
    const int error = errno;
    ::close(file);  // the mapping stays
    if (!regular) refuse("it is not a regular file");
    if (data == MAP_FAILED) refuse(std::strerror(error));
    if (!size) refuse("it is empty");
    File result;
    result.data_ = data;
    result.size_ = size;
    result.mapped_ = true;
    return result;
}

File File::copy(const void* data, size_t size) {
    File result;
    result.data_ = allocate(size);
    result.size_ = size;
    if (size) std::memcpy(result.data_, data, size);
    return result;
}

void File::set_aside(const void* data, size_t size) const {
    const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
    const auto start = reinterpret_cast<uintptr_t>(data);
    const uintptr_t begin = (start + page - 1) / page * page, end = (start + size) / page * page;
    if (mapped_ && begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

File::File(File&& other) noexcept { *this = std::move(other); }

File& File::operator=(File&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(mapped_, other.mapped_);
    return *this;
}

File::~File() {
    if (mapped_) ::munmap(data_, size_);
    else std::free(data_);
}

}  // namespace ff
