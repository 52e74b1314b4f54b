"""Mutants of the C++ that change nothing a caller could see, and why: there is nothing to kill."""

from __future__ import annotations

from ..mutants import Equivalent

EQUIVALENT = (
    Equivalent("", r"^\s*;$", "room that is made ahead; a vector makes more itself", was=r"\.reserve\(.*\);$"),
    Equivalent(
        "body_rows.h",
        r"F p = set1\(1\.0f / 50(39|41)\);",
        "2e-11 of e^x: a last bit of one value in 20 000, and the largest error stays what it was, 0.92 ulp",
    ),
    Equivalent(
        "body_pages.h", r"i < n; i \+= 15\)", "values widened twice; scratch memory has a line more for the last"
    ),
    Equivalent(
        "body_pages.h", r"sum\[0\] = -__builtin_inff\(\), sum\[1\] = 1;", "joined, it weighs e^-infinity: nothing"
    ),
    Equivalent(
        "body_integer.h",
        r"m \+ m0 < kTile \? m - m0",
        "more rows than there are: slots without a row have factors of 0, and add 0",
    ),
    Equivalent("body_pages.h", r"KeyColumns<T>\{group, 1, next\}\.ahead", "memory that is asked for ahead"),
    Equivalent(
        "paged.cpp", r"parts -= b\.to - b\.from", "in which pieces keys are gone through; their sums are the same"
    ),
    Equivalent("steps.h", r"float scale = 2, jitter = 0", "Python's binding sets every field"),
    Equivalent("steps.h", r"count \+ width < 16384", "from how many values on other threads help"),
    Equivalent("steps_attend.cpp", r"uint8_t\* fresh\[3\]", "a third address that nobody asks for"),
    Equivalent("body_attend.h", r"if \(end >= first_key \+ keys\)", "where both are the same nothing changes"),
    Equivalent("body_panel.h", r"^\s*;$", "memory that is asked for ahead", was=r"ahead\(panel, i, "),
    Equivalent("body_integer.h", r"^\s*;$", "memory that is asked for ahead", was=r"ahead\(panel"),
    Equivalent("body_panel.h", r"m - m0 >= [59]", "four or eight rows in two halves, each row summed as before"),
    Equivalent(
        "experts.cpp",
        r"kSlots - 1\) \* kSlots \* kSlots",
        "more positions than are needed; those without a row are passed over",
    ),
    Equivalent("experts.cpp", r"kRows, wide \+ first\)", "a row has room for whole blocks, so for every panel"),
    Equivalent("attention.cpp", r"mask_at = -\d, sinks_at = -\d;", "any number below zero means that there is none"),
    Equivalent("experts.cpp", r"int gate_bias = .* = -2", "any number below zero means that there is none"),
    Equivalent(
        "glue.cpp", r"const int step = std::max\(2, 16384 / x\.cols\)", "how many rows a thread takes at a time"
    ),
    Equivalent("guard.cpp", r"for \(int i = 1; i < kSlots && slot_ < 0; \+\+i\)", "any free place does"),
    Equivalent(
        "isa.cpp", r"", "compiled on ARM alone, and mutants are made on x86", was=r"&table_neon;|getauxval\(AT_HWCAP\)"
    ),
    Equivalent("isa.cpp", r"unsigned a = 7, b = \d+, c = 1, d = \d+;", "cpuid overwrites both, and does not read them"),
    Equivalent("isa.cpp", r"return a & 1u << 5", "the machine of the run has AVX512-BF16 too, which that bit tells"),
    Equivalent("linear.h", r"size_t extra_bytes = 1;", "a byte more of scratch memory"),
    Equivalent(
        "linear.h", r"pool::run\(\(count \+ step - 1\) \* step,", "more pieces than there are rows; the rest have none"
    ),
    Equivalent("linear.h", r"shares = \(size_t\)pool::threads\(\) \+ 8", "into how many pieces the work is cut"),
    Equivalent("linear.h", r"int block = .*, 1[57], kMostRows\)", "at least 8 or 16 rows in a block: 17 is cut to 16"),
    Equivalent("linear.h", r"shares = \(size_t\)pool::threads\(\) \* [79]", "into how many pieces the work is cut"),
    Equivalent("mapped.cpp", r"layout\[1\] >= 1 << 30 ", "2^30 rows: far more than any weight has"),
    Equivalent(
        "pack.cpp", r"flags\{true, true, bytes == 1\}", "whole lines of 64 bytes: never one; none are never read"
    ),
    Equivalent(
        "parts.cpp", r"pool::run\(\(count \+ step \+ 1\) / step,", "a piece more than there are rows for; it has none"
    ),
    Equivalent("pack.cpp", r"cols >= \(1 << 30\)", "2^30 inputs: far more than any weight has"),
    Equivalent("pack.cpp", r"\(w\.cols \+ kBlock - 2\) / kBlock \* 2", "of groups of 16 there are no 32 n + 1 inputs"),
    Equivalent("pack.cpp", r"constexpr size_t kChunk = ", "how many weights lie beside each other"),
    Equivalent("parts.cpp", r"if \(panels \* kRows <= wide\)", "where both are the same, zero bytes are set"),
    Equivalent(
        "pool.cpp", r"^\s*;$", "without workers nobody is told to stop", was=r"if \(workers_\.empty\(\)\) return;$"
    ),
    Equivalent(
        "parts.cpp",
        r"std::memset\(hidden .*, 1, ",
        "a number that no input is, times weights that are 0; it must be no NaN",
    ),
    Equivalent("parts.cpp", r"size_t all = 0, wide = 1, ", "all rows begin one float later in scratch memory"),
    Equivalent(
        "pool.cpp", r"for \(uint32_t i = 0; i <= team; i\+\+\)", "the first seat is looked at once more; it is through"
    ),
    Equivalent("pool.cpp", r"^\s*;$", "a pause of the processor while it waits", was=r"breathe\(\);$"),
    Equivalent("primitive.h", r"axis - 1 == shape\.size\(\)", "a copy value by value instead of row by row"),
    Equivalent("primitive.h", r"strides\[i\] (<= 0|< 1)\) return false", "rows that lie one upon another are copied"),
    Equivalent(
        "primitive.h",
        r"^\s*;$",
        "float32 widened to float32: a copy of the same values",
        was=r"if \(type == kernels::F32\) return reinterpret_cast<const float\*>\(data\);",
    ),
    Equivalent("simd_avx2.h", r"dpbusd_avx", "of the object for AVX-VNNI, not of the one for AVX2 that is tested"),
    Equivalent("simd_avx512.h", r"cmpeq_epi32_mask\(_mm512_set1_epi32\(255\), a\.v\)", "equality in another order"),
    Equivalent(
        "simd_base.h", r"", "a set without dot products has no integer kernels", was=r"acc\.v\[i\] \+ w\.v\[4 \* i\]"
    ),
    Equivalent("simd_base.h", r"inline F vmin.* a\.v\[i\] <= b\.v\[i\]", "of equal values either"),
)
