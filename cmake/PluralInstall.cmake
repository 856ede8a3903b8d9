# Installed package: filled in with the library targets below.
