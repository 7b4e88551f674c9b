//! A job array: one task an element. A requeued element finds its task done, or makes it again.

use std::path::Path;

use super::Submission;

/// The batch script's text.
pub fn script(submission: &Submission<'_>, binary: &Path) -> String {
    let Submission { night, info, file, at_once, .. } = submission;
    let at_once = at_once.map(|count| format!("%{count}")).unwrap_or_default();
    let mut lines = vec![
        "#!/bin/sh".to_owned(),
        format!("#SBATCH --job-name=slotstorm-{}", info.campaign),
        format!("#SBATCH --array=0-{}{at_once}", info.runs.saturating_sub(1)),
        format!("#SBATCH --cpus-per-task={}", file.slurm.cpus),
        format!("#SBATCH --time={}", submission.limit_s().div_ceil(60)),
        "#SBATCH --requeue".to_owned(),
        format!("#SBATCH --output={}", option(&format!("{}/slurm-%a.txt", night.display()))),
    ];
    lines.extend(file.slurm.options.iter().map(|word| format!("#SBATCH {}", option(word))));
    lines.push(format!("exec {} campaign task {}", quoted(binary), quoted(night)));
    lines.push(String::new());
    lines.join("\n")
}

/// A word of a `#SBATCH` line, which sbatch splits at spaces unless they are quoted.
fn option(word: &str) -> String {
    if word.contains([' ', '\t']) { format!("\"{word}\"") } else { word.to_owned() }
}

/// A word of the shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::tests::{file, info};

    #[test]
    fn the_script_has_one_element_a_task_and_paths_with_spaces_stay_whole() {
        let (info, mut file) = (info("small", 3), file());
        file.slurm.options = vec!["--partition=chaos".into()];
        let submission = Submission {
            night: Path::new("/shared/the results/campaigns/n"),
            results: Path::new("/shared/the results"),
            info: &crate::campaign::night::NightInfo { runs: 40, ..info },
            file: &file,
            at_once: Some(4),
        };
        let script = script(&submission, Path::new("/shared/it's/slotstorm"));
        for line in [
            "#SBATCH --array=0-39%4",
            "#SBATCH --time=7", // the canary's 260 s and two minutes of room
            "#SBATCH --output=\"/shared/the results/campaigns/n/slurm-%a.txt\"",
            "#SBATCH --partition=chaos",
            r"exec '/shared/it'\''s/slotstorm' campaign task '/shared/the results/campaigns/n'",
        ] {
            assert!(script.lines().any(|one| one == line), "{line}\n{script}");
        }
    }
}
