// Which kernels this machine can run.
#pragma once
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace headrace {

// Best first, always ending in the scalar ones.
std::vector<const Kernels*> usable_kernels();

// The kernels of that name, or the best ones if it is empty. Throws if this machine cannot run them.
const Kernels& find_kernels(const std::string& name);

}  // namespace headrace
