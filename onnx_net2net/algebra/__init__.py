"""Terms for axes, the solver, and the notation of rules. Pure: no ONNX."""
