//! The `lorakit` command.

fn main() -> std::process::ExitCode {
    lorakit_cli::main(std::env::args_os()).into()
}
