package problem

// Nearest returns the word of the list that a mistyped one most likely means.
func Nearest(word string, list []string) string {
	best, least := "", 1<<30
	for _, each := range list {
		if d := distance(word, each); d < least {
			best, least = each, d
		}
	}
	return best
}

// Meant returns "did you mean ...?" when a word of the list is near enough to
// be meant, else the words that there are.
func Meant(word string, list []string) string {
	if near := Nearest(word, list); near != "" && distance(word, near) <= max(2, len(word)/3) && distance(word, near) < len(word) {
		return `did you mean "` + near + `"?`
	}
	s := "there are: "
	for i, each := range list {
		if i > 0 {
			s += ", "
		}
		s += each
	}
	return s
}

// distance is the number of letters to insert, delete or change (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := diagonal
			if a[i-1] != b[j-1] {
				change++
			}
			diagonal = row[j]
			row[j] = min(change, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
