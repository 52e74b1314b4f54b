"""The parts of the self-test, in the order in which they run: those that tell most come first, the longest last."""

from __future__ import annotations

from .results import Part

# what makes Metal check every access and argument of a kernel
VALIDATED = {"METAL_DEVICE_WRAPPER_TYPE": "1", "MTL_SHADER_VALIDATION": "1"}
HERE = "mlxrun.selftest"

PARTS = (
    Part("machine", "This machine", f"{HERE}.machine:look", 15, 8),
    Part("terminal", "Terminal", f"{HERE}.terminal:look", 10, 8),
    Part("kernels", "Kernels", f"{HERE}.kernels:compare", 60, 20),
    Part("validated", "Kernels, checked by Metal", f"{HERE}.kernels:compare_validated", 40, 15, VALIDATED),
    Part("mapping", "Files as memory", f"{HERE}.mapping:load_and_let_go", 20, 12),
    Part("wiring", "Wired memory", f"{HERE}.wiring:wire_and_release", 10, 8),
    Part("plan", "Planned memory", f"{HERE}.planned:measure", 30, 12),
    Part("families", "Families of models", f"{HERE}.families:compare", 45, 20),
    Part("starter", "SmolLM2", f"{HERE}.starter:answer", 60, 20),
    Part("tuning", "Choice of kernels", f"{HERE}.tuning:choose", 20, 8),
    Part("endurance", "Loads and requests", f"{HERE}.endurance:load_and_ask", 150, 15),
)
