"""What a study is made of, and the settings that follow from it by rules, each with its reason."""
