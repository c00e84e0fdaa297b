//! Tests as sentences over real namespaces, buses and kernels; benchmarks
