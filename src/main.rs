#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    tilefit::cli::run()
}
