//! An Indexed Job: one task an index. A pod that is lost is made again for its index, and finds its task done or makes it.

use serde_json::{Value, json};

use super::Submission;

/// Pods at the same time unless told: a manifest that says nothing runs one after the other.
const AT_ONCE: usize = 8;
/// Attempts at an index after the first. A run that is invalid is none that failed: only lost pods are made again.
const RETRIES: u32 = 3;
/// Of a Job's name, so that a pod's host name (name, dash, index) is one.
const NAME_MAX: usize = 50;

/// The manifest.
pub fn manifest(submission: &Submission<'_>) -> Value {
    let Submission { night, results, info, file, at_once } = submission;
    let settings = &file.kubernetes;
    let labels = json!({ "app.kubernetes.io/name": "slotstorm", "app.kubernetes.io/instance": name(&info.campaign, info.seed) });
    let resources = json!({ "cpu": settings.cpu, "memory": settings.memory });
    let pod = json!({
        "restartPolicy": "Never",
        "activeDeadlineSeconds": submission.limit_s(),
        "containers": [{
            "name": "run",
            "image": settings.image,
            // The index comes as JOB_COMPLETION_INDEX.
            "command": ["slotstorm", "campaign", "task", night.display().to_string()],
            "resources": { "requests": resources.clone(), "limits": resources },
            "volumeMounts": [{ "name": "results", "mountPath": results.display().to_string() }],
        }],
        "volumes": [{ "name": "results", "persistentVolumeClaim": { "claimName": settings.claim } }],
    });
    let mut metadata = json!({ "name": name(&info.campaign, info.seed), "labels": labels.clone() });
    if let Some(namespace) = &settings.namespace {
        metadata["namespace"] = json!(namespace);
    }
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "completionMode": "Indexed",
            "completions": info.runs,
            "parallelism": at_once.unwrap_or(AT_ONCE).min(info.runs as usize),
            "backoffLimitPerIndex": RETRIES,
            "template": { "metadata": { "labels": labels }, "spec": pod },
        },
    })
}

/// As RFC 1123 has labels: small letters, digits and dashes, a letter or digit at both ends.
fn name(campaign: &str, seed: u64) -> String {
    let seed = format!("-{seed}");
    let mut plain: String =
        campaign.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    plain.truncate(NAME_MAX.saturating_sub("slotstorm-".len() + seed.len()));
    format!("slotstorm-{}{seed}", plain.trim_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_such_as_kubernetes_takes() {
        assert_eq!(name("Nightly_7", 5), "slotstorm-nightly-7-5");
        let long = name(&"x".repeat(200), u64::MAX);
        assert!(long.len() <= NAME_MAX && long.ends_with("-18446744073709551615"), "{long}");
    }
}
