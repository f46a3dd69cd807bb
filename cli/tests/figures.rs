//! Pictures of the networks: every system has one, drawing repeats, and those beside the pages are the
//! program's.

use std::path::Path;

use crate::binary::ganomede;

/// What `scripts/figures.sh` draws: file, and arguments of `explain`.
fn figures() -> Vec<(String, Vec<&'static str>)> {
    let mut all: Vec<_> = ::ganomede::models::SYSTEMS
        .iter()
        .map(|info| {
            let arguments = match info.name {
                "beatgan" => vec!["beatgan", "--size", "64", "--form", "signal", "--width", "32"],
                name => vec![name, "--size", "32"],
            };
            (info.name.to_owned(), arguments)
        })
        .collect();
    let resnet = vec!["f-anogan", "--option", "nets=resnet", "--size", "32"];
    all.push(("f-anogan-resnet".to_owned(), resnet));
    all
}

#[test]
fn every_page_has_the_picture_that_the_program_draws() {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/systems");
    for (name, arguments) in figures() {
        let draw = || {
            let picture = ["explain"].iter().chain(&arguments).chain(&["--svg", "-"]).copied();
            ganomede(picture.collect::<Vec<_>>()).well().stdout.clone()
        };
        let drawn = draw();
        assert_eq!(drawn, draw(), "{name}: drawing repeats");
        assert!(
            drawn.starts_with("<svg ") && drawn.trim_end().ends_with("</svg>") && !drawn.contains("NaN"),
            "{name}"
        );
        let kept = std::fs::read_to_string(pages.join(format!("{name}.svg"))).unwrap_or_default();
        assert!(
            kept.trim_end() == drawn.trim_end(),
            "{name}.svg is not what is drawn; `make figures` draws it anew"
        );
        let page = name.strip_suffix("-resnet").unwrap_or(&name);
        let page = std::fs::read_to_string(pages.join(format!("{page}.md"))).unwrap();
        assert!(page.contains(&format!("({name}.svg)")), "{name}: the page shows its picture");
    }
}

#[test]
fn pictures_of_signals_and_tables_are_drawn_too() {
    for arguments in
        [["ganomaly", "--form", "signal", "--size", "64"], ["egbad", "--form", "table", "--size", "64"]]
    {
        let drawn = ganomede(["explain", "--svg", "-"].iter().chain(&arguments));
        assert!(drawn.well().stdout.contains("generator"), "{arguments:?}");
    }
    ganomede(["explain", "ganomaly", "--form", "table", "--svg", "-"]).refused(2, &["form is table"]);
}
