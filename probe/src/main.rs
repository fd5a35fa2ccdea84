//! `early-response-probe URL` uploads to the URL as many kinds of client, and reports which of them
//! receive the early response.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
