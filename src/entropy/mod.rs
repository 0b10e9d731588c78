pub mod laplace;
