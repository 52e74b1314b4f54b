// What nodes share with Python lies behind a pointer of ours. One that nanobind makes of a Python object takes the
// interpreter's lock when it goes; a node goes on MLX's threads, under MLX's own locks, for which others wait with that lock.
#pragma once

#include <memory>

#include "pages.h"

struct PagesHeld {
  std::shared_ptr<Pages> pages;
};
struct BatchHeld {
  std::shared_ptr<const PagedBatch> batch;
};
