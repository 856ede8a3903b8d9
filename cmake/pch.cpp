// Carrier of the precompiled header (see PluralTargets.cmake).
