"""One module a verb; `datastore.cli.main` loads a module only when its verb is used."""
