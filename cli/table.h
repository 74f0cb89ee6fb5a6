#pragma once

#include <string>
#include <vector>

namespace postbag {

// Columns of text for people: every column as wide as its widest cell, two spaces between, no
// trailing spaces; columns named in `right` are set to the right (numbers). The first row is the
// head. Cells are used as they are (printable() them first). Pure.
std::string render_table(const std::vector<std::vector<std::string>>& rows,
                         const std::vector<std::size_t>& right = {});

// Cut to `width` columns with "..." at its end.
std::string shortened(const std::string& text, std::size_t width);

}  // namespace postbag
