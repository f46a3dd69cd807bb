//! Every kernel in plain f64 loops: the definition that all twins and variants are tested against.
