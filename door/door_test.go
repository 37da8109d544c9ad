package door

import "testing"

func TestEveryDoorHasANameAndPorts(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range All() {
		text, err := d.MarshalText()
		if err != nil {
			t.Fatalf("door %d: %v", d, err)
		}
		if seen[string(text)] {
			t.Errorf("door %s is listed twice", text)
		}
		seen[string(text)] = true
		var back Door
		if err := back.UnmarshalText(text); err != nil || back != d {
			t.Errorf("%s read back as %v, %v", text, back, err)
		}
		if len(d.Ports()) == 0 {
			t.Errorf("door %s has no port", d)
		}
	}
	if len(seen) != 4 {
		t.Errorf("%d doors, want 4", len(seen))
	}
}

func TestPortsAreACopy(t *testing.T) {
	SMTP.Ports()[0] = 1
	if got := SMTP.Ports()[0]; got != 25 {
		t.Errorf("the first port of smtp became %d by writing to a copy", got)
	}
}

func TestNoneIsRefused(t *testing.T) {
	if _, err := Parse("none"); err == nil {
		t.Error(`Parse("none") made a door`)
	}
	if _, err := Door(0).MarshalText(); err == nil {
		t.Error("the zero door was written")
	}
	if Door(0).Built(Open) || Door(0).Ports() != nil || Side(0).String() != "none" {
		t.Error("the zero door has a side or a port")
	}
}
