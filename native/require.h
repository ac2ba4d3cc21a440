// Errors at the door: a ValueError in Python, with a sentence.
#pragma once
#include <sstream>
#include <stdexcept>

namespace headrace {

template <typename... Parts>
[[noreturn]] void reject(const Parts&... parts) {
    std::ostringstream sentence;
    (sentence << ... << parts);
    throw std::invalid_argument(sentence.str());
}

// Throws unless `ok`; `parts` make the sentence.
template <typename... Parts>
void require(bool ok, const Parts&... parts) {
    if (!ok) reject(parts...);
}

}  // namespace headrace
