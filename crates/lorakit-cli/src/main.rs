//! The `lorakit` command.

fn main() -> std::process::ExitCode {
    lorakit_cli::run(std::env::args_os())
}
