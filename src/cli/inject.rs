//! `inject`: manifests with the sidecar in them.

use std::{
    fs,
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, anyhow};

use super::InjectArgs;
use crate::inject::{Asked, Settings, manifest, plan};

/// Manifests or a diff on standard output, what became of each object on standard error.
pub(super) fn main(args: &InjectArgs) -> anyhow::Result<ExitCode> {
    let settings = settings(args)?;
    let asked = if args.all { Asked::ByNamespace } else { Asked::ByPod };
    let inputs = manifest::read(&args.files, &mut io::stdin().lock()).map_err(|errors| anyhow!(errors.join("\n")))?;
    let manifests = manifest::inject(inputs, &|pod| plan(pod, asked, &settings));
    manifests.report().for_each(report);
    if manifests.errors() > 0 {
        return Ok(ExitCode::FAILURE);
    }
    if args.check {
        return Ok(ExitCode::SUCCESS);
    }
    if args.diff {
        let diff = manifests.diff();
        write(&diff)?;
        // As `kubectl diff` and `diff` do it.
        return Ok(if diff.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    write(&manifests.stream())?;
    Ok(ExitCode::SUCCESS)
}

fn settings(args: &InjectArgs) -> anyhow::Result<Settings> {
    let Some(file) = &args.config else { return Ok(Settings::default()) };
    let name = file.display().to_string();
    let text = fs::read_to_string(file).with_context(|| name.clone())?;
    Settings::read(&text, &name).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow!(lines.join("\n"))
    })
}

/// Half of the manifests with exit status 0 would be applied as if they were all; a reader that has seen enough is
/// no failure.
fn write(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("standard output"),
        _ => Ok(()),
    }
}

/// Without the program's name: each line begins with the file's, where editors look for it. A closed standard error
/// is no reason to stop.
fn report(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
