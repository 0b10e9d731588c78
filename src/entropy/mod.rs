//! Entropy coding: from integers to bytes and back.
//!
//! | file | what it has |
//! | --- | --- |
//! | `range_coder` | symbols with 16-bit probabilities to bytes |
//! | `cdf` | distributions as tables |
//! | `laplace` | the Laplace distribution, computed in integers; codes of family `pyramid` |
//! | `adaptive` | integers whose probabilities are learned while coding; codes and weights of family `gdn` |
//! | `weights` | weights in groups, each with a Laplace distribution; family `pyramid` |
//! | `bottleneck` | the factorised density that the fit of family `gdn` minimises |
//!
//! On the decoding side no probability depends on floating point.

pub mod adaptive;
#[allow(clippy::disallowed_methods, reason = "the encoder's alone")]
#[cfg(feature = "fit")]
pub mod bottleneck;
pub mod cdf;
pub mod laplace;
pub mod range_coder;
pub mod weights;
