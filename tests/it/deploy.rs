//! The files under `deploy/`: they can be read, and refer to what exists.

use std::{fs, path::Path};

use yaml_rust2::{Yaml, YamlLoader};

use crate::support::{http::Site, process::Place};

fn read(path: &str) -> Vec<Yaml> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path);
    let text = fs::read_to_string(&path).unwrap();
    YamlLoader::load_from_str(&text).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()))
}

fn names(list: &Yaml) -> Vec<&str> {
    list.as_vec().into_iter().flatten().filter_map(|item| item["name"].as_str()).collect()
}

#[test]
fn what_compose_sets_is_a_sound_configuration() {
    let compose = &read("compose.yaml")[0];
    let (redis, overdue) = (&compose["services"]["redis"], &compose["services"]["overdue"]);
    let command: Vec<_> = redis["command"].as_vec().unwrap().iter().filter_map(Yaml::as_str).collect();
    assert!(command.windows(2).any(|pair| pair == ["--maxmemory-policy", "noeviction"]));
    assert!(command.windows(2).any(|pair| pair == ["--appendonly", "yes"]));
    let env: Vec<(&str, &str)> = overdue["environment"]
        .as_hash()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.as_str().unwrap(), value.as_str().unwrap()))
        .collect();
    assert!(env.contains(&("OVERDUE_REDIS__URL", "redis://redis:6379")));
    Place::new("").run_with(&["config", "check"], std::process::Stdio::null(), &env).ok();
    let dockerfile = overdue["build"]["dockerfile"].as_str().unwrap();
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(dockerfile).exists());
    let volume = redis["volumes"][0].as_str().unwrap().split(':').next().unwrap();
    assert!(!compose["volumes"][volume].is_badvalue());
}

#[tokio::test]
async fn the_kubernetes_manifests_fit_together_and_to_the_binary() {
    let documents = read("kubernetes/overdue.yaml");
    let of = |kind: &str| documents.iter().find(|one| one["kind"].as_str() == Some(kind)).expect(kind);
    let pod = &of("Deployment")["spec"]["template"];
    let (spec, container) = (&pod["spec"], &pod["spec"]["containers"][0]);
    assert_eq!(names(&container["volumeMounts"]), names(&spec["volumes"]));
    assert_eq!(spec["volumes"][0]["configMap"]["name"], of("ConfigMap")["metadata"]["name"]);
    for selector in [
        &of("Deployment")["spec"]["selector"]["matchLabels"],
        &of("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        &of("Service")["spec"]["selector"],
    ] {
        assert_eq!(selector, &pod["metadata"]["labels"]);
    }

    let place = Place::new("");
    for name in ["ops-token", "webhook-secret"] {
        place.write(name, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    }
    let config = of("ConfigMap")["data"]["overdue.toml"].as_str().unwrap();
    let secrets = format!("{}/", place.path("").display());
    place.write("overdue.toml", &config.replace("/secrets/", &secrets));
    let shown = place.run(&["config", "check"]).ok() + &place.run(&["config", "show"]).ok();
    assert!(shown.contains("webhook"), "{shown}");
    let port = container["ports"][0]["containerPort"].as_i64().unwrap();
    assert!(config.contains(&format!(":{port}\"")));

    let site = Site::pull().await;
    for probe in ["livenessProbe", "readinessProbe"] {
        let path = container[probe]["httpGet"]["path"].as_str().unwrap();
        crate::support::eventually(path, async || (site.caller.get(path).await.status == 200).then_some(()))
            .await;
    }
    let monitor = &read("kubernetes/servicemonitor.yaml")[0]["spec"]["endpoints"][0];
    assert_eq!(site.caller.get(monitor["path"].as_str().unwrap()).await.status, 200);
    assert_eq!(monitor["port"], of("Service")["spec"]["ports"][0]["name"]);
    site.serve.stop().await;
}

#[test]
fn there_is_a_man_page_for_every_command() {
    let place = Place::new("");
    place.run(&["man", "man"]).ok();
    for name in ["overdue", "overdue-serve", "overdue-dead-retry"] {
        let page = fs::read_to_string(place.path(&format!("man/{name}.1"))).unwrap();
        assert!(page.contains(".TH ") && page.contains(".SH SYNOPSIS"), "{page}");
    }
}
