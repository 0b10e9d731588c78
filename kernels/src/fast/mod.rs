//! Kernels of the fit: equal to their scalar twins within a tolerance.
