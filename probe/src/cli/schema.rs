//! The JSON schema of a report.

use early_response_probe::Report;

/// Returns the schema, as `report.schema.json` has it.
pub(crate) fn text() -> String {
    let schema = schemars::generate::SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<Report>();
    serde_json::to_string_pretty(&schema).expect("a schema is JSON")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    #[test]
    fn committed_schema_is_that_of_the_types() {
        // As values, because features of other packages change the order of the members.
        let [committed, own] = [include_str!("../../report.schema.json"), &super::text()]
            .map(|text| serde_json::from_str::<Value>(text).expect("a schema is JSON"));
        assert_eq!(
            committed, own,
            "write the output of --schema to probe/report.schema.json"
        );
    }
}
